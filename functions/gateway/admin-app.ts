import { createRoute, OpenAPIHono, z } from "@hono/zod-openapi";
import { apiAuth } from "#core/http/api-auth.ts";
import { OPERATIONS_PATHS, operationsRoutes } from "#core/http/operations.ts";
import { problemHandler, problemNotFound, refuseInvalidInput } from "#core/http/problem.ts";
import { GatewayAdmin } from "#core/rpc/gen/gateway_pb.ts";
import { mergeOpenApi, prpcOpenApi } from "#core/rpc/openapi.ts";
import { prpcRoutes } from "#core/rpc/server.ts";
import { AppError } from "#core/errors/app-error.ts";
import { ADMIN_METHODS, adminHandlers } from "./admin-service.ts";
import type { GatewayPorts } from "./ports.ts";
import type { RouteDecision } from "./route.ts";

const REASONS = {
  "no-host-name": "The name is empty.",
  "unknown-domain": "The name ends in no base domain that has a certificate here.",
  "missing-label": "The name is a base domain itself; an app's name has one label before it.",
  "nested-label": "The name has more than one label before the base domain.",
  "malformed-label": "The label is not <id>, <id>-<port>, <id>-<port>s or <id>-<port>g.",
  "reserved-name": "gateway and health answer on port 80 of the plain form only.",
  "unknown-app": "No CVM is registered under this app id or instance id.",
  "no-healthy-instance": "No CVM of the app has had a WireGuard handshake recently.",
  "port-denied": "The port policy of the app does not allow this port.",
  "port-policy-unknown": "The CVM has not reported its port policy, so nothing is allowed.",
} as const;

const routeSchema = z.object({
  host: z.string(),
  outcome: z.enum(["forward", "local", "refused"]),
  reason: z.enum(Object.keys(REASONS) as [keyof typeof REASONS]).optional(),
  detail: z.string(),
  mode: z.enum(["terminate", "passthrough", "h2"]).optional(),
  port: z.int().optional(),
  app_id: z.string().optional(),
  proxy_protocol: z.boolean().optional(),
  candidates: z.array(z.object({ instance_id: z.string(), address: z.string() })).optional(),
}).openapi("RouteDecision");

const explainRoute = createRoute({
  method: "get",
  path: "/v1/routes/{host}",
  operationId: "explainRoute",
  summary: "Where a connection for a host name goes now, and why",
  request: { params: z.object({ host: z.string().min(1).max(253) }) },
  responses: {
    200: { description: "Decision", content: { "application/json": { schema: routeSchema } } },
    401: { description: "Wrong or no token" },
  },
});

/** The operator's listener; every path needs the token. */
export function createGatewayAdminApp(ports: GatewayPorts): OpenAPIHono {
  const { version, metrics, ready, settings } = ports;
  const app = new OpenAPIHono({ defaultHook: refuseInvalidInput });
  app.onError(problemHandler(ports.logError));
  app.notFound(problemNotFound);
  if (!settings.adminWithoutAuth) {
    const realm = "dstack-gateway admin";
    app.use(apiAuth({ tokens: settings.adminTokens, realm, queryToken: true }));
  }
  app.route("/", operationsRoutes({ version, ready, metrics }));
  app.openapi(explainRoute, (c) => {
    const { host } = c.req.valid("param");
    return c.json(explain(host, ports.decide(host)), 200);
  });
  app.get("/openapi.json", (c) => c.json(gatewayAdminOpenApi(app, version.version)));
  const rpc = prpcRoutes(GatewayAdmin, adminHandlers(ports), {
    trim: ["Admin.", "GatewayAdmin."],
    context: () => {},
    observe: ({ error }) => {
      if (error !== undefined && !(error instanceof AppError)) ports.logError(error);
    },
  });
  app.route("/prpc", rpc);
  app.route("/", rpc);
  return app;
}

function gatewayAdminOpenApi(app: OpenAPIHono, version: string) {
  const own = app.getOpenAPI31Document({
    openapi: "3.1.0",
    info: { title: "dstack gateway admin", version },
    servers: [{ url: "/" }],
  });
  const rpc = prpcOpenApi([{ service: GatewayAdmin, path: "/prpc", methods: ADMIN_METHODS }]);
  return mergeOpenApi(own, { paths: OPERATIONS_PATHS }, rpc);
}

function explain(host: string, decision: RouteDecision): z.infer<typeof routeSchema> {
  switch (decision.kind) {
    case "refused":
      return {
        host,
        outcome: "refused",
        reason: decision.reason,
        detail: REASONS[decision.reason],
      };
    case "local":
      return { host, outcome: "local", detail: `The gateway answers as ${decision.service}.` };
    case "forward": {
      const { mode, port, appId, candidates, proxyProtocol } = decision;
      const how = {
        terminate: "TLS ends here",
        passthrough: "TLS passes",
        h2: "TLS with h2 ends here",
      };
      return {
        host,
        outcome: "forward",
        detail: `${how[mode]}; port ${port} of ${candidates.length} instance(s), freshest first.`,
        mode,
        port,
        app_id: appId,
        proxy_protocol: proxyProtocol,
        candidates: candidates.map(({ instanceId, address }) => ({
          instance_id: instanceId,
          address,
        })),
      };
    }
  }
}
