import { CATALOG, type ErrorCode, type ErrorStatus } from "./catalog.ts";

export type { ErrorCode, ErrorStatus } from "./catalog.ts";

/**
 * The one error class of the project. `message` may be shown to the caller, so it never holds a
 * secret; everything else goes into `cause`, which is only logged. `fields` are extra members of the
 * RFC 9457 problem document.
 */
export class AppError extends Error {
  readonly code: ErrorCode;
  readonly fields: Readonly<Record<string, unknown>>;

  constructor(
    code: ErrorCode,
    message: string,
    options: { cause?: unknown; fields?: Readonly<Record<string, unknown>> } = {},
  ) {
    super(message, options.cause === undefined ? undefined : { cause: options.cause });
    this.name = "AppError";
    this.code = code;
    this.fields = options.fields ?? {};
  }

  get status(): ErrorStatus {
    return CATALOG[this.code].status;
  }

  get title(): string {
    return CATALOG[this.code].title;
  }
}

/** The messages of an error and its causes, outermost first, as pRPC clients of dstack show them. */
export function errorChain(error: unknown): string {
  const parts: string[] = [];
  for (let e = error; e !== undefined && parts.length < 16;) {
    parts.push(e instanceof Error ? e.message : String(e));
    e = e instanceof Error ? e.cause : undefined;
  }
  return parts.join(": ");
}
