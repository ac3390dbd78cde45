import { type Env, Hono, type MiddlewareHandler } from "hono";
import type { Metrics } from "./metrics.ts";

export interface AppVersion {
  /** Semantic version without `v`. */
  readonly version: string;
  /** `git:<20 hex>`, with `-modified` where the tree was, or `unknown`. */
  readonly rev: string;
}

export interface OperationsPorts {
  readonly version: AppVersion;
  /** Each dependency by name: true when it can be used now. None means ready. */
  readonly ready?: () => Promise<Readonly<Record<string, boolean>>>;
  readonly metrics?: Metrics;
}

/** `/healthz`, `/readyz`, `/version`, `/metrics`: the same on every service. */
export function operationsRoutes<E extends Env = Env>(ports: OperationsPorts): Hono<E> {
  const app = new Hono<E>();
  app.get("/healthz", (c) => c.json({ status: "ok" }));
  app.get("/readyz", async (c) => {
    const checks = await ports.ready?.() ?? {};
    const ready = Object.values(checks).every(Boolean);
    return c.json({ status: ready ? "ready" : "not-ready", checks }, ready ? 200 : 503);
  });
  app.get("/version", (c) => c.json(ports.version));
  app.get("/metrics", async (c) => {
    const text = await ports.metrics?.text();
    if (text === undefined) return c.notFound();
    return c.body(text, 200, { "content-type": "text/plain; version=0.0.4; charset=utf-8" });
  });
  return app;
}

/** The reference's header on every answer: `X-App-Version: v0.6.0 (git:…)`. */
export function appVersionHeader({ version, rev }: AppVersion): MiddlewareHandler {
  return async (c, next) => {
    await next();
    c.res.headers.set("x-app-version", `v${version} (${rev})`);
  };
}

const objectOf = (properties: Record<string, unknown>) => ({
  type: "object",
  required: Object.keys(properties),
  properties,
});
const json = (schema: unknown) => ({ "application/json": { schema } });
const readiness = objectOf({
  status: { type: "string", enum: ["ready", "not-ready"] },
  checks: { type: "object", additionalProperties: { type: "boolean" } },
});

/** The OpenAPI paths of operationsRoutes(). */
export const OPERATIONS_PATHS = {
  "/healthz": {
    get: {
      operationId: "getHealth",
      summary: "Whether the process answers",
      responses: {
        200: {
          description: "It does",
          content: json(objectOf({ status: { type: "string", enum: ["ok"] } })),
        },
      },
    },
  },
  "/readyz": {
    get: {
      operationId: "getReadiness",
      summary: "Whether what the service depends on can be used",
      responses: {
        200: { description: "Ready", content: json(readiness) },
        503: { description: "Not ready", content: json(readiness) },
      },
    },
  },
  "/version": {
    get: {
      operationId: "getVersion",
      summary: "Version and source revision",
      responses: {
        200: {
          description: "The version",
          content: json(objectOf({ version: { type: "string" }, rev: { type: "string" } })),
        },
      },
    },
  },
  "/metrics": {
    get: {
      operationId: "getMetrics",
      summary: "Metrics in the Prometheus text format",
      responses: {
        200: { description: "Metrics", content: { "text/plain": { schema: { type: "string" } } } },
        404: { description: "This deployment keeps none" },
      },
    },
  },
} as const;
