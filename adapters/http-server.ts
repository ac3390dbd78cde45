import { createServer } from "node:http";
import { getRequestListener } from "@hono/node-server";
import type { ServerFetch } from "#core/http/bindings.ts";
import { listen, type Listening } from "./listening.ts";

export interface HttpServerOptions {
  /** IP address or name to bind: `127.0.0.1`. */
  readonly host: string;
  /** 0 lets the system choose. */
  readonly port: number;
}

/** Plain HTTP on TCP. `c.env.remoteAddress` is the peer's address. */
export function serveHttp(fetch: ServerFetch, options: HttpServerOptions): Promise<Listening> {
  const listener = getRequestListener((request, env) => {
    const { remoteAddress } = env.incoming.socket;
    return fetch(request, remoteAddress === undefined ? {} : { remoteAddress });
  }, { overrideGlobalObjects: false, hostname: options.host });
  const { host, port } = options;
  return listen(createServer(listener), { host, port }, `${host}:${port}`);
}
