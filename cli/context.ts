import createClient, { type Client } from "openapi-fetch";
import type { paths } from "#openapi/dstackd.ts";
import { AppError } from "#core/errors/app-error.ts";
import type { FetchLike } from "#core/http/fetch-like.ts";
import { readInputText } from "./input-file.ts";

export type DstackdClient = Client<paths>;

/** Options every command takes, before or after its name. */
export interface GlobalOptions {
  readonly host?: string;
  readonly tokenFile?: string;
  readonly json?: boolean;
}

/** What commands reach the world through; a test hands in doubles. */
export interface CliPorts {
  readonly env: Readonly<Record<string, string | undefined>>;
  readonly readFile: (path: string) => Promise<Uint8Array>;
  /** Replaces the file whole or not at all, mode 0600. */
  readonly writeFile: (path: string, bytes: Uint8Array) => Promise<void>;
  readonly fetch: FetchLike;
  /** A FetchLike over the unix socket at `path`; hosts of URLs do not matter. */
  readonly unixFetch: (path: string) => FetchLike;
  /** A FetchLike over TLS that trusts `caPem` alone, or the system's roots without it. */
  readonly tlsFetch: (caPem: string | undefined) => FetchLike;
  readonly now: () => Date;
  readonly randomBytes: (length: number) => Uint8Array;
  readonly sleep: (ms: number) => Promise<void>;
  /** Data, on stdout. */
  readonly print: (text: string) => void;
  /** A piece of a stream, on stdout as it is. */
  readonly write: (text: string) => void;
  /** Progress and prompts, on stderr. */
  readonly say: (text: string) => void;
  /** Runs a program of the checkout on this terminal; resolves with its exit status. */
  readonly runFromCheckout: (program: string, argv: readonly string[]) => Promise<number>;
  readonly setExitCode: (code: number) => void;
}

/** Where dstackd listens unless told otherwise. */
const DEFAULT_HOST = "http://127.0.0.1:9080";

export async function dstackdClient(
  options: GlobalOptions,
  ports: CliPorts,
): Promise<DstackdClient> {
  const host = options.host ?? ports.env["DSTACK_HOST"] ?? DEFAULT_HOST;
  const [, socket] = /^unix:(?:\/\/)?(\/.+)$/.exec(host) ?? [];
  if (socket === undefined && !/^https?:\/\//.test(host)) {
    throw new AppError(
      "input/malformed",
      `--host takes an http(s) URL or unix:PATH, not '${host}'`,
    );
  }
  const send = socket === undefined ? ports.fetch : ports.unixFetch(socket);
  const tokenFile = options.tokenFile ?? ports.env["DSTACK_TOKEN_FILE"];
  const token = tokenFile === undefined
    ? ports.env["DSTACK_TOKEN"]
    : (await readInputText(tokenFile, ports)).trim();
  return createClient<paths>({
    baseUrl: socket === undefined ? host : "http://localhost",
    headers: {
      // pRPC speaks protobuf unless told otherwise, also to a request without a body.
      "content-type": "application/json",
      ...(token !== undefined && { authorization: `Bearer ${token}` }),
    },
    fetch: async (request) => {
      try {
        const body = new Uint8Array(await request.arrayBuffer());
        return await send(request.url, {
          method: request.method,
          headers: Object.fromEntries(request.headers),
          ...(body.length > 0 && { body }),
          signal: request.signal,
        });
      } catch (cause) {
        throw new AppError(
          "upstream/unavailable",
          `Cannot reach dstackd at ${host}; is it running, and is --host (or DSTACK_HOST) right?`,
          { cause },
        );
      }
    },
  });
}

interface Answer<T> {
  readonly data?: T;
  readonly error?: unknown;
  readonly response: Response;
}

/** The data of an answer, or its error as one of ours. */
export function dataOf<T>(answer: Answer<T>): T {
  if (answer.response.ok) return answer.data as T;
  const { error, response } = answer;
  const text = textOf(error) ?? `dstackd answered HTTP ${response.status}`;
  if (response.status === 401) {
    throw new AppError(
      "auth/unauthenticated",
      "dstackd wants a token: --token-file FILE, DSTACK_TOKEN_FILE or DSTACK_TOKEN",
    );
  }
  // pRPC answers carry the code in a header, `/v1` in the problem's type.
  const code = response.headers.get("x-error-code") ?? problemCode(error);
  throw new AppError("upstream/refused", code === null ? text : `${text} [${code}]`);
}

function textOf(error: unknown): string | undefined {
  if (typeof error !== "object" || error === null) return undefined;
  const { error: rpc, detail } = error as { error?: unknown; detail?: unknown };
  return [rpc, detail].find((text): text is string => typeof text === "string");
}

function problemCode(error: unknown): string | null {
  const type = (error as { type?: unknown } | null | undefined)?.type;
  const prefix = "urn:dstack-edge:error:";
  return typeof type === "string" && type.startsWith(prefix) ? type.slice(prefix.length) : null;
}
