import { serveUnix } from "#adapters/unix-http.ts";
import { files } from "../adapters/files.ts";

interface Served {
  readonly fetch: (request: Request) => Response | Promise<Response>;
}

/** What answers on the agent's sockets. */
export interface SocketApps {
  readonly dstack: Served;
  readonly tappd: Served;
}

const PATHS = {
  dstack: ["/run/dstack.sock", "/run/dstack/dstack.sock"],
  tappd: ["/run/tappd.sock", "/run/dstack/tappd.sock"],
} as const satisfies Record<keyof SocketApps, readonly string[]>;

/**
 * Opens the sockets apps mount, before dockerd may start a container that names them: docker would put a
 * directory there. Callers wait until `serve` says who answers.
 *
 * The program itself listens: systemd's socket proxy drops a client that has sent all it will, and the
 * SDKs close their half of the connection before they read.
 */
export async function openAgentSockets(): Promise<{ serve: (apps: SocketApps) => void }> {
  const { promise: apps, resolve: serve } = Promise.withResolvers<SocketApps>();
  await files.makeDirectory("/run/dstack");
  for (const name of ["dstack", "tappd"] as const) {
    for (const path of PATHS[name]) {
      await serveUnix(async (request) => await (await apps)[name].fetch(request), {
        socket: { path, mode: 0o777 },
      });
    }
  }
  return { serve };
}
