import { Buffer } from "node:buffer";
import { chmod, lstat, rm } from "node:fs/promises";
import { createServer, request as httpRequest } from "node:http";
import { connect } from "node:net";
import process from "node:process";
import { getRequestListener } from "@hono/node-server";
import { AppError } from "#core/errors/app-error.ts";
import type { ServerFetch } from "#core/http/bindings.ts";
import type { FetchLike } from "#core/http/fetch-like.ts";
import { isErrno } from "./files.ts";
import { deadline, incomingOf, responseOf } from "./incoming-response.ts";
import { listen, type Listening } from "./listening.ts";

export interface UnixServerOptions {
  /** Where the socket is made, or a listening socket inherited from systemd. */
  readonly socket: { readonly path: string; readonly mode?: number } | { readonly fd: number };
  /**
   * Whole answers with a Content-Length, as dstack's JavaScript SDK needs them: its HTTP parser knows
   * no chunks. Default true; false where answers are streams without an end.
   */
  readonly wholeAnswers?: boolean;
}

/**
 * HTTP on a unix socket, tolerant of the clients dstack has (spec guest-agent.md 2.4): a request may
 * lack a Host header, or end its half of the connection and wait for ours. A stale socket file is
 * replaced; one that answers is left alone and refused as `resource/conflict`.
 */
export async function serveUnix(
  fetch: ServerFetch,
  options: UnixServerOptions,
): Promise<Listening> {
  const { socket, wholeAnswers = true } = options;
  const listener = getRequestListener(async (request) => {
    const response = await fetch(request, {});
    return wholeAnswers ? await whole(response) : response;
  }, { overrideGlobalObjects: false });
  const server = createServer(
    { requireHostHeader: false, keepAliveTimeout: 10_000 },
    (incoming, outgoing) => {
      incoming.headers.host = "localhost"; // whatever it was, it names no host
      return listener(incoming, outgoing);
    },
  );
  // A client that has sent all it will is still owed its answer, and then the end.
  Object.assign(server, { httpAllowHalfOpen: true });
  if ("fd" in socket) return listen(server, { fd: socket.fd }, `fd ${socket.fd}`);
  await removeStaleSocket(socket.path);
  const listening = await listen(server, { path: socket.path }, socket.path);
  if (socket.mode !== undefined) await chmod(socket.path, socket.mode);
  return listening;
}

/** The sockets systemd listens on for this process, in the order of its unit (sd_listen_fds(3)). */
export function inheritedSockets(): number[] {
  if (process.env["LISTEN_PID"] !== String(process.pid)) return [];
  const count = Number(process.env["LISTEN_FDS"] ?? 0);
  return Array.from({ length: Number.isInteger(count) && count > 0 ? count : 0 }, (_, i) => 3 + i);
}

async function whole(response: Response): Promise<Response> {
  if (response.body === null || response.headers.has("content-length")) return response;
  const body = await response.arrayBuffer();
  const headers = new Headers(response.headers);
  headers.set("content-length", String(body.byteLength));
  return new Response(body, { status: response.status, headers });
}

async function removeStaleSocket(path: string): Promise<void> {
  try {
    if (!(await lstat(path)).isSocket()) {
      throw new AppError("resource/conflict", `Cannot listen on ${path}: a file is in the way`);
    }
  } catch (error) {
    if (isErrno(error, "ENOENT")) return;
    throw error;
  }
  const alive = await new Promise<boolean>((resolve) => {
    const probe = connect(path);
    probe.once("connect", () => {
      probe.destroy();
      resolve(true);
    });
    probe.once("error", () => resolve(false));
  });
  if (alive) throw new AppError("resource/conflict", `Cannot listen on ${path}: it is in use`);
  await rm(path, { force: true });
}

export interface UnixFetchOptions {
  /** For everything, body included; 0 for streams without an end. Default 60 s. */
  readonly timeoutMs?: number;
  /** Default 16 MiB. */
  readonly maxResponseBytes?: number;
}

/** A FetchLike that reaches `path` whatever host the URL names: `http://localhost/Info`. */
export function unixFetch(path: string, options: UnixFetchOptions = {}): FetchLike {
  const { timeoutMs = 60_000, maxResponseBytes = 16 << 20 } = options;
  return async (url, init) => {
    const target = new URL(url);
    const total = deadline(init.signal, timeoutMs, `Request to ${path}`);
    const request = httpRequest({
      socketPath: path,
      method: init.method,
      path: target.pathname + target.search,
      headers: {
        ...init.headers,
        host: "localhost",
        connection: "close",
        ...init.body !== undefined && { "content-length": Buffer.byteLength(init.body) },
      },
    });
    const abort = () => {
      request.destroy();
    };
    total.signal.addEventListener("abort", abort, { once: true });
    request.once("close", () => total.clear());
    try {
      const answered = incomingOf(request);
      request.end(init.body);
      return responseOf(await answered, maxResponseBytes, path);
    } catch (cause) {
      request.destroy();
      if (total.signal.aborted) throw total.signal.reason;
      if (cause instanceof AppError) throw cause;
      throw new AppError("upstream/unavailable", `Cannot reach ${path}`, { cause });
    }
  };
}
