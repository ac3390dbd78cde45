import {
  create,
  type DescMethod,
  type DescService,
  type MessageInitShape,
  type MessageShape,
} from "@bufbuild/protobuf";
import { fromUtf8 } from "../bytes/bytes.ts";
import { AppError } from "../errors/app-error.ts";
import type { FetchLike } from "../http/fetch-like.ts";
import { readResponse } from "../http/response-body.ts";
import { decodeJson, encodeJson } from "./json.ts";

type Methods<S extends DescService> = S["method"];

export interface CallOptions {
  readonly signal?: AbortSignal;
}

export type PrpcClient<S extends DescService> = {
  readonly [M in keyof Methods<S>]: (
    request?: MessageInitShape<Methods<S>[M]["input"]>,
    options?: CallOptions,
  ) => Promise<MessageShape<Methods<S>[M]["output"]>>;
};

export interface PrpcClientOptions {
  /** Ends before the method: `https://kms.example/prpc`. */
  readonly baseUrl: string;
  readonly fetch: FetchLike;
  readonly headers?: Readonly<Record<string, string>>;
  /** Longest answer taken, in bytes. Default 16 MiB. */
  readonly maxResponseBytes?: number;
}

/**
 * Calls a pRPC service in JSON mode, as the reference's own clients do. Throws `upstream/refused` with
 * the remote text (its code and reason in `fields`), `upstream/unavailable` when nobody answers,
 * `upstream/invalid` when the answer is no pRPC. An AppError thrown by `fetch` passes unchanged.
 */
export function prpcClient<S extends DescService>(
  service: S,
  options: PrpcClientOptions,
): PrpcClient<S> {
  const baseUrl = options.baseUrl.replace(/\/+$/, "");
  return Object.fromEntries(service.methods.map((method) => [
    method.localName,
    (request?: MessageInitShape<DescMethod["input"]>, callOptions?: CallOptions) =>
      call(method, `${baseUrl}/${method.name}?json`, request, { ...options, ...callOptions }),
  ])) as PrpcClient<S>;
}

async function call(
  method: DescMethod,
  url: string,
  request: MessageInitShape<DescMethod["input"]> | undefined,
  options: PrpcClientOptions & CallOptions,
): Promise<MessageShape<DescMethod["output"]>> {
  const name = `${method.parent.name}.${method.name}`;
  const body = encodeJson(method.input, create(method.input, request));
  const maxSize = options.maxResponseBytes ?? 16 * 1024 * 1024;
  let status: number;
  let answer: Uint8Array;
  let headers: Headers;
  try {
    const response = await options.fetch(url, {
      method: "POST",
      headers: { ...options.headers, "content-type": "application/json" },
      body,
      ...options.signal && { signal: options.signal },
    });
    ({ status, headers } = response);
    answer = await readResponse(response, maxSize, name);
  } catch (error) {
    if (error instanceof AppError) throw error;
    throw new AppError("upstream/unavailable", `Cannot call ${name} at ${new URL(url).host}`, {
      cause: error,
    });
  }
  if (status !== 200) throw refused(name, status, answer, headers);
  try {
    return decodeJson(method.output, answer, maxSize);
  } catch (cause) {
    throw new AppError("upstream/invalid", `${name} answered what is not ${method.output.name}`, {
      cause,
    });
  }
}

function refused(name: string, status: number, body: Uint8Array, headers: Headers): AppError {
  let text: unknown;
  try {
    text = (JSON.parse(fromUtf8(body)) as { error?: unknown } | null)?.error;
  } catch {
    text = undefined; // not a pRPC error: the status is all there is to say
  }
  if (typeof text !== "string") {
    const code = status >= 500 ? "upstream/unavailable" : "upstream/invalid";
    return new AppError(code, `${name} answered HTTP ${status}`);
  }
  const remoteCode = headers.get("x-error-code");
  const remoteReason = headers.get("x-error-reason");
  return new AppError("upstream/refused", text.slice(0, 4096), {
    fields: { method: name, ...remoteCode && { remoteCode }, ...remoteReason && { remoteReason } },
  });
}
