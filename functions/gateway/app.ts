import { Hono } from "hono";
import { appVersionHeader, OPERATIONS_PATHS, operationsRoutes } from "#core/http/operations.ts";
import { problemHandler, problemNotFound } from "#core/http/problem.ts";
import { Gateway } from "#core/rpc/gen/gateway_pb.ts";
import { mergeOpenApi, prpcOpenApi } from "#core/rpc/openapi.ts";
import type { GatewayPorts } from "./ports.ts";
import { type GatewayEnv, gatewayRoutes } from "./service.ts";

/** The TLS server CVMs register at. Operators have a listener of their own: see admin-app.ts. */
export function createGatewayApp(ports: GatewayPorts): Hono<GatewayEnv> {
  const { version, metrics, ready } = ports;
  const app = new Hono<GatewayEnv>();
  app.onError(problemHandler(ports.logError));
  app.notFound(problemNotFound);
  app.use(appVersionHeader(version));
  app.get("/health", (c) => c.text("OK"));
  app.route("/", operationsRoutes({ version, ready, metrics }));
  app.get("/openapi.json", (c) => c.json(gatewayOpenApi(version.version)));
  app.route("/prpc", gatewayRoutes(ports));
  return app;
}

/** The document of `/openapi.json`. */
export function gatewayOpenApi(version: string): Record<string, unknown> {
  return mergeOpenApi(
    { openapi: "3.1.0", info: { title: "dstack gateway", version }, servers: [{ url: "/" }] },
    { paths: OPERATIONS_PATHS },
    prpcOpenApi([{ service: Gateway, path: "/prpc" }]),
  );
}
