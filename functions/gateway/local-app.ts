import { Hono } from "hono";
import { errorChain } from "#core/errors/app-error.ts";

export interface LocalPorts {
  /** JSON text of the guest agent's `Info`; undefined where the gateway runs outside a CVM. */
  readonly appInfo: () => Promise<string | undefined>;
  readonly logError: (message: string) => void;
}

const INDEX = { type: "dstack gateway", paths: ["/index", "/app-info", "/acme-info"] };

/**
 * What `gateway.<base>` and `health.<base>` answer over the ingress (gateway.md 1.4): GET only,
 * `/.dstack` before a path may be left out or repeated.
 */
export function createLocalApp(ports: LocalPorts): Hono {
  const app = new Hono({ getPath: (request) => localPath(new URL(request.url).pathname) });
  app.use(async (c, next) => {
    if (c.req.method !== "GET") return c.body(null, 405, { allow: "GET" });
    await next();
  });
  app.get("/", (c) => isHealthName(c.req.header("host")) ? c.body(null, 200) : c.notFound());
  app.get("/health", (c) => c.body(null, 200));
  app.get("/index", (c) => c.json(INDEX));
  app.get("/app-info", async (c) => {
    const info = await ports.appInfo();
    return info === undefined ? c.notFound() : c.body(info, 200, JSON_TYPE);
  });
  app.get("/acme-info", (c) => c.json({ account_uri: "", quoted_hist_keys: [] }));
  app.notFound((c) => c.body(null, 404));
  app.onError((error, c) => {
    ports.logError(errorChain(error));
    return c.body(null, 500);
  });
  return app;
}

const JSON_TYPE = { "content-type": "application/json" };

function localPath(path: string): string {
  while (path.startsWith("/.dstack/")) path = path.slice("/.dstack".length);
  return path;
}

/** HAProxy sends both names here; only `health.` has something to say at the root. */
function isHealthName(host: string | undefined): boolean {
  return host?.toLowerCase().startsWith("health.") ?? false;
}
