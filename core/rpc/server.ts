import {
  create,
  type DescMethod,
  type DescService,
  fromBinary,
  type MessageInitShape,
  type MessageShape,
  toBinary,
} from "@bufbuild/protobuf";
import { type Context, type Env, Hono } from "hono";
import { AppError } from "../errors/app-error.ts";
import { readBounded } from "../http/bounded-stream.ts";
import { PrpcErrorSchema } from "./gen/prpc_pb.ts";
import { decodeJson, encodeJson, escapeNonAscii } from "./json.ts";
import { decodeQuery } from "./query.ts";

/** Body limit of the reference, in bytes. */
export const MAX_BODY_BYTES = 10 * 1024 * 1024;

type Methods<S extends DescService> = S["method"];

/** One function a method, keyed as in the generated code (`getAppKey`). Methods left out are unknown. */
export type PrpcHandlers<S extends DescService, Ctx> = {
  readonly [M in keyof Methods<S>]?: (
    request: MessageShape<Methods<S>[M]["input"]>,
    ctx: Ctx,
  ) =>
    | MessageInitShape<Methods<S>[M]["output"]>
    | Promise<MessageInitShape<Methods<S>[M]["output"]>>;
};

export interface PrpcOptions<Ctx, E extends Env = Env> {
  /** Prefixes clients may put before a method, repeated or not: `"KMS."`. */
  readonly trim?: string | readonly string[];
  /** What handlers need to know about the request. An error it throws is the answer. */
  readonly context: (c: Context<E>) => Ctx | Promise<Ctx>;
  /** Body limits in bytes of single methods; the others have MAX_BODY_BYTES. */
  readonly bodyLimits?: Readonly<Record<string, number>>;
  /** JSON answers are escaped to ASCII: the guest agent's oldest clients need it. */
  readonly asciiOnly?: boolean;
  /** Called for every call after it was answered; `error` is what the handler threw. */
  readonly observe?: (call: { method: string; error?: unknown }) => void;
}

/**
 * The pRPC transport (spec kms.md section 1): `GET|POST /<Method>`, JSON or protobuf, 200 or 400.
 * A refusal names its code in `X-Error-Code` and, where there are any, its reason in
 * `X-Error-Reason` and what would change it in `X-Error-Remedy`: the reference's body has no place for
 * them.
 */
export function prpcRoutes<S extends DescService, Ctx, E extends Env = Env>(
  service: S,
  handlers: PrpcHandlers<S, Ctx>,
  options: PrpcOptions<Ctx, E>,
): Hono<E> {
  const prefixes = typeof options.trim === "string" ? [options.trim] : options.trim ?? [];
  const methods = new Map<string, Call<Ctx>>();
  for (const method of service.methods) {
    const handler = handlers[method.localName] as unknown as Call<Ctx>["handler"] | undefined;
    if (handler !== undefined) methods.set(method.name, { method, handler });
  }
  const app = new Hono<E>();
  app.on(["GET", "POST"], "/:method", async (c) => {
    const name = trimmed(c.req.param("method"), prefixes);
    const json = isJson(c.req.raw);
    let call: Call<Ctx> | undefined;
    try {
      call = methods.get(name);
      if (call === undefined) throw new AppError("resource/not-found", `Method not found: ${name}`);
      const request = await readRequest(c.req.raw, call.method, json, options.bodyLimits?.[name]);
      const answer = await call.handler(request, await options.context(c));
      const message = create(call.method.output, answer);
      const body = json
        ? jsonBody(encodeJson(call.method.output, message), options.asciiOnly)
        : toBinary(call.method.output, message);
      options.observe?.({ method: name });
      return reply(body, json, 200);
    } catch (error) {
      options.observe?.({ method: call === undefined ? "unknown" : name, error });
      return prpcError(error, json, options.asciiOnly);
    }
  });
  return app;
}

interface Call<Ctx> {
  readonly method: DescMethod;
  readonly handler: (
    request: MessageShape<DescMethod["input"]>,
    ctx: Ctx,
  ) => MessageInitShape<DescMethod["output"]> | Promise<MessageInitShape<DescMethod["output"]>>;
}

function trimmed(method: string, prefixes: readonly string[]): string {
  for (;;) {
    const prefix = prefixes.find((prefix) => method.startsWith(prefix));
    if (prefix === undefined) return method;
    method = method.slice(prefix.length);
  }
}

/** GET, a `json` flag in the query, or a JSON body: the request and its answer are JSON. */
export function isJson(request: Request): boolean {
  if (request.method !== "POST") return true;
  const flag = new URL(request.url).searchParams.get("json");
  if (flag === "" || flag === "1" || flag === "true") return true;
  const type = request.headers.get("content-type") ?? "";
  return type.split(";", 1)[0]!.trim().toLowerCase() === "application/json";
}

async function readRequest(
  request: Request,
  method: DescMethod,
  json: boolean,
  limit = MAX_BODY_BYTES,
): Promise<MessageShape<DescMethod["input"]>> {
  if (request.method !== "POST") {
    return decodeQuery(method.input, new URL(request.url).search.slice(1));
  }
  const body = await readBody(request, limit);
  if (json) return decodeJson(method.input, body, limit);
  try {
    return fromBinary(method.input, body);
  } catch (cause) {
    throw new AppError("input/malformed", `Cannot parse ${method.input.typeName}: not protobuf`, {
      cause,
    });
  }
}

/** The whole body, refused as soon as it exceeds `limit` bytes. */
export async function readBody(request: Request, limit: number): Promise<Uint8Array> {
  const tooLong = () =>
    new AppError("input/too-large", `payload too large: at most ${limit} bytes are allowed`);
  if (Number(request.headers.get("content-length") ?? 0) > limit) throw tooLong();
  return await readBounded(request.body, limit, tooLong);
}

/**
 * Every failure is 400 here. The text is the chain of errors meant for the caller; the first one that
 * is not an AppError ends it, for its message may say anything.
 */
export function prpcError(error: unknown, json: boolean, asciiOnly = false): Response {
  const shown = publicChain(error);
  const headers: Record<string, string> = {};
  if (error instanceof AppError) {
    headers["x-error-code"] = error.code;
    const reason = reasonText(error.fields["reason"]);
    if (reason !== undefined) headers["x-error-reason"] = reason;
    const { remedy } = error.fields;
    if (typeof remedy === "string" && /^[\x20-\x7e]{1,600}$/.test(remedy)) {
      headers["x-error-remedy"] = remedy;
    }
  }
  const body = json
    ? jsonBody(JSON.stringify({ error: shown }, null, 2), asciiOnly)
    : toBinary(PrpcErrorSchema, create(PrpcErrorSchema, { message: shown }));
  return reply(body, json, 400, headers);
}

function publicChain(error: unknown): string {
  const messages: string[] = [];
  for (let e = error; e instanceof AppError && messages.length < 16; e = e.cause) {
    messages.push(e.message);
  }
  return messages.length > 0 ? messages.join(": ") : "Unexpected failure";
}

/** A reason is a stable code, alone or as the `code` of an object. */
function reasonText(reason: unknown): string | undefined {
  const code = typeof reason === "object" && reason !== null && "code" in reason
    ? reason.code
    : reason;
  return typeof code === "string" && /^[\x21-\x7e]{1,100}$/.test(code) ? code : undefined;
}

function jsonBody(text: string, asciiOnly = false): Uint8Array {
  return new TextEncoder().encode(asciiOnly ? escapeNonAscii(text) : text);
}

function reply(
  body: Uint8Array,
  json: boolean,
  status: number,
  headers: Record<string, string> = {},
): Response {
  return new Response(body.slice(), {
    status,
    headers: {
      ...headers,
      "content-type": json ? "application/json" : "application/octet-stream",
      "content-length": String(body.length),
    },
  });
}
