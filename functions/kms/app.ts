import { OpenAPIHono } from "@hono/zod-openapi";
import { Hono } from "hono";
import { appVersionHeader, OPERATIONS_PATHS, operationsRoutes } from "#core/http/operations.ts";
import { problemHandler, problemNotFound } from "#core/http/problem.ts";
import { KMS } from "#core/rpc/gen/kms_pb.ts";
import { prpcOpenApi } from "#core/rpc/openapi.ts";
import type { KmsEnv } from "./caller.ts";
import { EPOCH_ROUTES, epochRoutes } from "./epoch-app.ts";
import { LOG_ROUTES, logRoutes } from "./log-app.ts";
import { limited } from "./limits.ts";
import type { KmsPorts } from "./ports.ts";
import { SESSION_ROUTES, sessionRoutes } from "./session-app.ts";
import { kmsRoutes } from "./rpc.ts";

/** The TLS server of a KMS that holds keys. */
export function createKmsApp(ports: KmsPorts): Hono<KmsEnv> {
  const { version, metrics } = ports;
  const app = new Hono<KmsEnv>();
  app.onError(problemHandler((error) => ports.log.error("answering a request", error)));
  app.notFound(problemNotFound);
  app.use(appVersionHeader(version));
  app.get("/health", (c) => c.text("OK"));
  app.route("/", operationsRoutes({ version, metrics, ready: () => readiness(ports) }));
  app.get("/openapi.json", (c) => c.json(kmsOpenApi(version.version)));
  app.use("/v1/*", limited(ports.limits));
  app.use("/prpc/*", limited(ports.limits));
  app.route("/", logRoutes(ports));
  app.route("/", epochRoutes(ports));
  app.route("/", sessionRoutes(ports));
  app.route("/prpc", kmsRoutes(ports));
  return app;
}

/** The document of `/openapi.json`. */
export function kmsOpenApi(version: string): Record<string, unknown> {
  const rpc = prpcOpenApi([{ service: KMS, path: "/prpc" }]);
  const described = new OpenAPIHono();
  for (const route of [...LOG_ROUTES, ...EPOCH_ROUTES, ...SESSION_ROUTES]) {
    described.openAPIRegistry.registerPath(route);
  }
  const { paths, components } = described.getOpenAPI31Document({
    openapi: "3.1.0",
    info: { title: "dstack KMS", version },
  });
  return {
    openapi: "3.1.0",
    info: { title: "dstack KMS", version },
    paths: { ...OPERATIONS_PATHS, ...paths, ...rpc.paths },
    components: { schemas: { ...components?.schemas, ...rpc.components.schemas } },
  };
}

async function readiness(ports: KmsPorts): Promise<Record<string, boolean>> {
  const [auth, decisions] = await Promise.allSettled([
    ports.authApi.info(),
    ports.decisions.list({ limit: 1 }),
  ]);
  return {
    "auth-api": auth.status === "fulfilled",
    "decision-log": decisions.status === "fulfilled",
  };
}
