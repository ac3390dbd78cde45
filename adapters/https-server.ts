import { createServer } from "node:https";
import { TLSSocket } from "node:tls";
import { getRequestListener } from "@hono/node-server";
import { AppError } from "#core/errors/app-error.ts";
import type { ServerFetch } from "#core/http/bindings.ts";
import { isJson, prpcError } from "#core/rpc/server.ts";
import { listen, type Listening } from "./listening.ts";

export interface TlsIdentity {
  /** Leaf first, then its issuers. */
  readonly certPem: string;
  readonly keyPem: string;
}

export interface HttpsServerOptions extends TlsIdentity {
  readonly host: string;
  /** 0 lets the system choose. */
  readonly port: number;
  /** Clients are asked for a certificate, and one they present must chain to this CA. */
  readonly clientCaPem?: string;
  /** Connections beyond this many are closed at once. */
  readonly maxConnections?: number;
  /** A request must have arrived whole after this, its TLS handshake before it. Default 300 s. */
  readonly requestTimeoutMs?: number;
}

export interface HttpsListening extends Listening {
  /** New connections see this certificate; open ones go on. */
  replaceIdentity(identity: TlsIdentity): void;
}

/**
 * HTTPS with an optional client certificate. TLS proves that the client holds its key; one that does
 * not chain to `clientCaPem` is answered 400 before any handler runs, one that does is
 * `c.env.peerCertificate`. Without `clientCaPem` nobody is asked for one.
 */
export async function serveHttps(
  fetch: ServerFetch,
  options: HttpsServerOptions,
): Promise<HttpsListening> {
  const { host, port, clientCaPem } = options;
  const listener = getRequestListener((request, env) => {
    const { socket } = env.incoming;
    if (!(socket instanceof TLSSocket)) throw new TypeError("Connection without TLS");
    const peer = peerOf(socket);
    if (peer !== undefined && !socket.authorized) {
      const refusal = new AppError("auth/unauthenticated", "Client certificate is not trusted");
      return prpcError(refusal, isJson(request));
    }
    const { remoteAddress } = socket;
    return fetch(request, {
      ...peer && { peerCertificate: peer },
      ...remoteAddress !== undefined && { remoteAddress },
    });
  }, { overrideGlobalObjects: false, hostname: host });
  const contextOf = (identity: TlsIdentity) => ({
    cert: identity.certPem,
    key: identity.keyPem,
    minVersion: "TLSv1.2" as const,
    ...clientCaPem !== undefined && { ca: clientCaPem },
  });
  const { maxConnections, requestTimeoutMs } = options;
  const server = createServer({
    ...requestTimeoutMs !== undefined && {
      requestTimeout: requestTimeoutMs,
      headersTimeout: requestTimeoutMs,
      handshakeTimeout: requestTimeoutMs,
      connectionsCheckingInterval: Math.min(requestTimeoutMs, 5000),
    },
    ...contextOf(options),
    requestCert: clientCaPem !== undefined,
    rejectUnauthorized: false, // the check above answers in words
  }, listener);
  if (maxConnections !== undefined) server.maxConnections = maxConnections;
  const listening = await listen(server, { host, port }, `${host}:${port}`);
  return {
    ...listening,
    replaceIdentity: (identity) => server.setSecureContext(contextOf(identity)),
  };
}

function peerOf(socket: TLSSocket): Uint8Array | undefined {
  const { raw } = socket.getPeerCertificate();
  return raw === undefined ? undefined : new Uint8Array(raw);
}
