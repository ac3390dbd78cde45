import { Buffer } from "node:buffer";
import { request as httpRequest } from "node:http";
import { isIP } from "node:net";
import { connect, type TLSSocket } from "node:tls";
import { AppError } from "#core/errors/app-error.ts";
import type { FetchLike } from "#core/http/fetch-like.ts";
import { deadline, incomingOf, responseOf } from "./incoming-response.ts";

export interface TlsFetchOptions {
  /** The only roots a server may chain to. Without it, with `verify: "ca"`, those of the system. */
  readonly caPem?: string;
  /** Client certificate, leaf first. */
  readonly certPem?: string;
  readonly keyPem?: string;
  /**
   * "ca": the server's certificate must chain. "none": it need not, and `onPeerCertificate` is all
   * that stands between the caller and anyone; TLS still proves that the server holds its key.
   */
  readonly verify: "ca" | "none";
  /** Whether the certificate must name the host of the URL. */
  readonly checkHostname: boolean;
  /** Judges the server's certificate before any byte of the request leaves; throws to refuse it. */
  readonly onPeerCertificate?: (der: Uint8Array) => void | Promise<void>;
  /** Default 5 s, for TCP and TLS together. */
  readonly connectTimeoutMs?: number;
  /** For everything, body included. Default 60 s. */
  readonly timeoutMs?: number;
  /** Default 16 MiB. */
  readonly maxResponseBytes?: number;
}

/**
 * A FetchLike whose TLS rules are the caller's, one connection a request, redirects not followed.
 * Throws `upstream/untrusted` when the server is refused, `upstream/unavailable` when it cannot be
 * reached in time; an AppError of `onPeerCertificate` passes unchanged.
 */
export function makeTlsFetch(options: TlsFetchOptions): FetchLike {
  if (options.verify === "none" && options.checkHostname) {
    throw new TypeError("A host name in a certificate nobody vouches for proves nothing");
  }
  const { connectTimeoutMs = 5000, timeoutMs = 60_000, maxResponseBytes = 16 << 20 } = options;
  return async (url, init) => {
    const target = new URL(url);
    if (target.protocol !== "https:") throw new TypeError(`Not an https URL: ${target.protocol}`);
    const total = deadline(init.signal, timeoutMs, `Request to ${target.host}`);
    const connecting = deadline(
      total.signal,
      connectTimeoutMs,
      `Connecting to ${target.host}`,
    );
    let socket: TLSSocket | undefined;
    try {
      socket = await connectTls(target, options, connecting.signal);
      const connected = socket;
      connected.once("close", () => total.clear());
      total.signal.addEventListener("abort", () => connected.destroy(), { once: true });
      await judge(connected, options, target.host);
      const request = httpRequest({
        method: init.method,
        path: target.pathname + target.search,
        headers: {
          ...init.headers,
          host: target.host,
          connection: "close",
          ...init.body !== undefined && { "content-length": Buffer.byteLength(init.body) },
        },
        createConnection: () => connected,
      });
      const answered = incomingOf(request);
      request.end(init.body);
      const incoming = await answered;
      return responseOf(incoming, maxResponseBytes, target.host);
    } catch (cause) {
      socket?.destroy();
      if (total.signal.aborted) throw total.signal.reason;
      if (connecting.signal.aborted) throw connecting.signal.reason;
      if (cause instanceof AppError) throw cause;
      throw new AppError("upstream/unavailable", `Request to ${target.host} failed`, { cause });
    } finally {
      connecting.clear();
      if (socket === undefined) total.clear();
    }
  };
}

function connectTls(
  target: URL,
  options: TlsFetchOptions,
  signal: AbortSignal,
): Promise<TLSSocket> {
  const host = target.hostname.replace(/^\[|\]$/g, "");
  return new Promise((resolve, reject) => {
    if (signal.aborted) return reject(signal.reason);
    const socket = connect({
      // RFC 6761 6.3: names below .localhost are this machine, also where its resolver does not say so.
      host: host === "localhost" || host.endsWith(".localhost") ? "127.0.0.1" : host,
      port: Number(target.port || 443),
      ...isIP(host) === 0 && { servername: host },
      minVersion: "TLSv1.2",
      ALPNProtocols: ["http/1.1"],
      rejectUnauthorized: options.verify === "ca",
      ...options.caPem !== undefined && { ca: options.caPem },
      ...options.certPem !== undefined && { cert: options.certPem },
      ...options.keyPem !== undefined && { key: options.keyPem },
      ...!options.checkHostname && { checkServerIdentity: () => undefined },
    });
    let reached = false;
    const abort = () => socket.destroy(asError(signal.reason));
    signal.addEventListener("abort", abort, { once: true });
    socket.once("connect", () => reached = true);
    socket.once("secureConnect", () => {
      signal.removeEventListener("abort", abort);
      resolve(socket);
    });
    socket.once("error", (cause) => {
      signal.removeEventListener("abort", abort);
      reject(
        reached && !isConnectionLoss(cause)
          ? new AppError("upstream/untrusted", `TLS with ${target.host} failed`, { cause })
          : new AppError("upstream/unavailable", `Cannot connect to ${target.host}`, { cause }),
      );
    });
  });
}

async function judge(socket: TLSSocket, options: TlsFetchOptions, host: string): Promise<void> {
  if (options.verify === "ca" && !socket.authorized) {
    throw new AppError("upstream/untrusted", `Certificate of ${host} is not trusted`);
  }
  if (options.onPeerCertificate === undefined) return;
  const { raw } = socket.getPeerCertificate();
  if (raw === undefined) throw new AppError("upstream/untrusted", `${host} has no certificate`);
  try {
    await options.onPeerCertificate(new Uint8Array(raw));
  } catch (cause) {
    if (cause instanceof AppError) throw cause;
    throw new AppError("upstream/untrusted", `Certificate of ${host} was refused`, { cause });
  }
}

function isConnectionLoss(error: unknown): boolean {
  const code = error instanceof Error && "code" in error ? error.code : undefined;
  return code === "ECONNRESET" || code === "EPIPE" || code === "ETIMEDOUT" ||
    code === "ECONNREFUSED";
}

function asError(reason: unknown): Error {
  return reason instanceof Error ? reason : new Error(String(reason));
}
