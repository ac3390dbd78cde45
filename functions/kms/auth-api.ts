import { z } from "zod";
import { fromUtf8 } from "#core/bytes/bytes.ts";
import { AppError } from "#core/errors/app-error.ts";
import type { FetchLike } from "#core/http/fetch-like.ts";
import { readResponse } from "#core/http/response-body.ts";
import type { CircuitBreaker } from "#functions/circuit-breaker.ts";
import type { BootInfo } from "./boot-info.ts";

export type BootRole = "app" | "kms";

export interface BootAnswer {
  readonly isAllowed: boolean;
  readonly gatewayAppId: string;
  /** Empty when allowed. */
  readonly reason: string;
  /** Why nothing could be decided: a stable code, where the backend has one. */
  readonly code?: string | undefined;
  /** What would change a denial; names nothing but what was asked about. */
  readonly remedy?: string | undefined;
  /** What decided, in the backend's words; ours say. */
  readonly rule?: string | undefined;
  /** Where an on-chain answer was read. */
  readonly block?: { readonly number: number; readonly hash: string } | undefined;
}

/** What GetMeta tells about the authorisation backend; null where it has nothing to say. */
export interface AuthInfo {
  readonly gatewayAppId: string | null;
  readonly kmsContractAddress: string | null;
  readonly chainId: bigint | null;
  readonly appImplementation: string | null;
  readonly ethRpcUrl: string | null;
}

/** Who decides about boots. An answer is for one request: it is never kept. */
export interface AuthApi {
  /** Throws `upstream/unavailable` or `upstream/invalid`: both mean no. */
  readonly authorize: (role: BootRole, boot: BootInfo, requestId?: string) => Promise<BootAnswer>;
  readonly info: () => Promise<AuthInfo>;
}

/** Everything is allowed; for development only, and GetMeta says so. */
export function devAuthApi(gatewayAppId: string): AuthApi {
  return {
    authorize: () => Promise.resolve({ isAllowed: true, gatewayAppId, reason: "" }),
    info: () =>
      Promise.resolve({
        gatewayAppId,
        kmsContractAddress: null,
        chainId: null,
        appImplementation: null,
        ethRpcUrl: null,
      }),
  };
}

const MAX_ANSWER_BYTES = 1024 * 1024;

const bootAnswerSchema = z.object({
  isAllowed: z.boolean(),
  gatewayAppId: z.string(),
  reason: z.string(),
  rule: z.string().max(256).optional(),
  remedy: z.string().max(512).optional(),
  code: z.string().max(64).optional(),
  block: z.object({ number: z.int().nonnegative(), hash: z.string().regex(/^0x[0-9a-f]{64}$/) })
    .optional(),
});

const authInfoSchema = z.object({
  status: z.string(),
  kmsContractAddr: z.string(),
  gatewayAppId: z.string(),
  chainId: z.int().nonnegative(),
  appImplementation: z.string(),
  ethRpcUrl: z.string().optional(),
});

export interface WebhookOptions {
  /** Exactly as configured: GET asks it for info, boots go to `bootAuth/…` below it. */
  readonly url: string;
  readonly fetch: FetchLike;
  /** Of one attempt, milliseconds. */
  readonly timeoutMs: number;
  readonly userAgent: string;
  readonly breaker: CircuitBreaker;
}

/**
 * The HTTP webhook (kms.md 6.1). Asks once more when nobody answered or the answer was a 5xx, and for a
 * while not at all when that keeps happening: `reason` in the error's fields is then `circuit-open`,
 * after a timeout `timeout`.
 */
export function webhookAuthApi(options: WebhookOptions): AuthApi {
  const base = options.url.endsWith("/") ? options.url : `${options.url}/`;
  return {
    authorize: (role, boot, requestId) =>
      ask(options, bootAnswerSchema, `${base}bootAuth/${role}`, JSON.stringify(boot), requestId),
    info: async () => {
      const info = await ask(options, authInfoSchema, options.url);
      return {
        gatewayAppId: info.gatewayAppId,
        kmsContractAddress: info.kmsContractAddr,
        chainId: BigInt(info.chainId),
        appImplementation: info.appImplementation,
        ethRpcUrl: info.ethRpcUrl || null,
      };
    },
  };
}

async function ask<T>(
  options: WebhookOptions,
  schema: z.ZodType<T>,
  url: string,
  body?: string,
  requestId?: string,
): Promise<T> {
  const text = await options.breaker.run(async () => {
    try {
      return await attempt(options, url, body, requestId);
    } catch (error) {
      if (!isUnavailable(error)) throw error;
      return await attempt(options, url, body, requestId);
    }
  }, isUnavailable);
  let document: unknown;
  try {
    document = JSON.parse(text);
  } catch (cause) {
    throw new AppError("upstream/invalid", "failed to decode response from auth api", { cause });
  }
  const parsed = schema.safeParse(document);
  if (parsed.success) return parsed.data;
  throw new AppError("upstream/invalid", "failed to decode response from auth api", {
    cause: parsed.error,
  });
}

/** W3C Trace Context: the request's UUID is the trace, so that its decision is found in every log. */
function traceParent(requestId: string): string {
  const trace = requestId.replaceAll("-", "");
  return `00-${trace}-${trace.slice(0, 16)}-01`;
}

function isUnavailable(error: unknown): boolean {
  return error instanceof AppError && error.code === "upstream/unavailable";
}

async function attempt(
  options: WebhookOptions,
  url: string,
  body: string | undefined,
  requestId: string | undefined,
): Promise<string> {
  let status: number;
  let text: string;
  const signal = AbortSignal.timeout(options.timeoutMs);
  try {
    const response = await options.fetch(url, {
      method: body === undefined ? "GET" : "POST",
      headers: {
        "user-agent": options.userAgent,
        ...body !== undefined && { "content-type": "application/json" },
        ...requestId !== undefined && { traceparent: traceParent(requestId) },
      },
      ...body !== undefined && { body },
      signal,
    });
    status = response.status;
    text = fromUtf8(await readResponse(response, MAX_ANSWER_BYTES, "auth api"), "auth api answer");
  } catch (cause) {
    if (signal.aborted) {
      const message = `auth api did not answer within ${options.timeoutMs} ms`;
      throw new AppError("upstream/unavailable", message, { cause, fields: { reason: "timeout" } });
    }
    if (cause instanceof AppError) throw cause;
    throw new AppError("upstream/unavailable", "auth api is unavailable", { cause });
  }
  if (status >= 200 && status < 300) return text;
  // The URL stays out, as it may carry a credential; the body is for the log.
  throw new AppError(
    status >= 500 ? "upstream/unavailable" : "upstream/invalid",
    `auth api returned ${status}`,
    { cause: new Error(firstCharacters(text, 512)) },
  );
}

/** At most `count` code points, so that none is cut. */
function firstCharacters(text: string, count: number): string {
  return [...text.slice(0, count * 2)].slice(0, count).join("");
}
