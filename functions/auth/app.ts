import { createRoute, OpenAPIHono, z } from "@hono/zod-openapi";
import { bodyLimit } from "hono/body-limit";
import { AppError } from "#core/errors/app-error.ts";
import { appVersionHeader, OPERATIONS_PATHS, operationsRoutes } from "#core/http/operations.ts";
import { problemNotFound } from "#core/http/problem.ts";
import type { BootRole } from "./backend.ts";
import { type BootDecision, bootInfoSchema, decisionSchema } from "./boot-info.ts";
import type { AuthPorts } from "./ports.ts";

const MAX_BODY_BYTES = 256 * 1024;
/** W3C Trace Context. */
const TRACE_PARENT = /^[0-9a-f]{2}-([0-9a-f]{32})-[0-9a-f]{16}-[0-9a-f]{2}$/;
/** What callers learn when nothing can be decided; the log says more. */
const UNAVAILABLE = "authorization backend unavailable";

const infoSchema = z.object({
  status: z.literal("ok"),
  kmsContractAddr: z.string(),
  ethRpcUrl: z.string(),
  gatewayAppId: z.string(),
  chainId: z.number().int(),
  appImplementation: z.string(),
  /** Older name of `appImplementation`. */
  appAuthImplementation: z.string(),
}).openapi("AuthInfo");

const infoRoute = createRoute({
  method: "get",
  path: "/",
  operationId: "getInfo",
  summary: "What a KMS shows about its authorisation",
  responses: {
    200: { description: "Info", content: { "application/json": { schema: infoSchema } } },
    500: {
      description: "Nothing can be decided",
      content: {
        "application/json": {
          schema: z.object({ status: z.literal("error"), message: z.string() }),
        },
      },
    },
  },
});

const ROLES = ["app", "kms"] as const satisfies readonly BootRole[];

const bootRoute = (role: BootRole) =>
  createRoute({
    method: "post",
    path: `/bootAuth/${role}`,
    operationId: role === "app" ? "authorizeApp" : "authorizeKms",
    summary: role === "app" ? "May this app have its keys?" : "May this KMS have the root keys?",
    request: {
      body: { required: true, content: { "application/json": { schema: bootInfoSchema } } },
    },
    responses: {
      200: { description: "Decision", content: { "application/json": { schema: decisionSchema } } },
      400: {
        description: "Not a boot info",
        content: { "application/json": { schema: decisionSchema } },
      },
    },
  });

/** The authorisation webhook of a KMS. A backend that cannot decide denies. */
export function createAuthApp(ports: AuthPorts): OpenAPIHono {
  const app = new OpenAPIHono({
    defaultHook: (result, c) => result.success ? undefined : c.json(invalidRequest(), 400),
  });
  app.onError((error, c) => {
    // The validator throws on a body that is not JSON.
    if ("getResponse" in error) return c.json(invalidRequest(), 400);
    ports.logError(error);
    return c.json({ isAllowed: false, reason: UNAVAILABLE, gatewayAppId: "" }, 500);
  });
  const { version, metrics } = ports;
  const decisions = metrics.counter({
    name: "dstack_auth_decisions_total",
    help: "Boots decided",
    labels: ["role", "allowed"],
  });
  app.notFound(problemNotFound);
  app.use(appVersionHeader(version));
  app.route("/", operationsRoutes({ version, metrics, ready: () => readiness(ports) }));
  app.get("/openapi.json", (c) => c.json(authOpenApi(version.version)));
  app.use(
    "/bootAuth/*",
    bodyLimit({ maxSize: MAX_BODY_BYTES, onError: (c) => c.json(invalidRequest(), 413) }),
  );

  app.openapi(infoRoute, async (c) => {
    try {
      const info = await ports.backend.info();
      const { appImplementation } = info;
      return c.json({ status: "ok", ...info, appAuthImplementation: appImplementation }, 200);
    } catch (error) {
      ports.logError(error);
      return c.json({ status: "error", message: UNAVAILABLE }, 500);
    }
  });

  for (const role of ROLES) {
    app.openapi(bootRoute(role), async (c) => {
      const boot = c.req.valid("json");
      let decision: BootDecision;
      try {
        decision = await ports.backend.decide(role, boot);
      } catch (error) {
        ports.logError(error);
        decision = { isAllowed: false, gatewayAppId: "", reason: UNAVAILABLE, ...codeOf(error) };
      }
      decisions.add(1, { role, allowed: String(decision.isAllowed) });
      const [, traceId] = TRACE_PARENT.exec(c.req.header("traceparent") ?? "") ?? [];
      ports.logDecision({ role, boot, decision, traceId });
      return c.json(decision, 200);
    });
  }
  return app;
}

/** The document of `/openapi.json`. */
export function authOpenApi(version: string): object {
  const described = new OpenAPIHono();
  described.openAPIRegistry.registerPath(infoRoute);
  for (const role of ROLES) described.openAPIRegistry.registerPath(bootRoute(role));
  const document = described.getOpenAPI31Document({
    openapi: "3.1.0",
    info: { title: "dstack auth", version },
  });
  return { ...document, paths: { ...OPERATIONS_PATHS, ...document.paths } };
}

async function readiness({ backend, logError }: AuthPorts): Promise<Record<string, boolean>> {
  try {
    await backend.info();
    return { [backend.name]: true };
  } catch (error) {
    logError(error);
    return { [backend.name]: false };
  }
}

/** The stable code in an error: `auth/chain-stale`. */
function codeOf(error: unknown): { code?: string } {
  const reason = error instanceof AppError ? error.fields["reason"] : undefined;
  return typeof reason === "string" ? { code: reason } : {};
}

function invalidRequest(): BootDecision {
  return { isAllowed: false, gatewayAppId: "", reason: "invalid authorization request" };
}
