import { createRoute, OpenAPIHono, z } from "@hono/zod-openapi";
import { bodyLimit } from "hono/body-limit";
import { AppError } from "#core/errors/app-error.ts";
import { appVersionHeader, OPERATIONS_PATHS, operationsRoutes } from "#core/http/operations.ts";
import { problemNotFound } from "#core/http/problem.ts";
import { type Allowlist, parseAllowlist } from "./allowlist.ts";
import { type BootDecision, bootInfoSchema, decisionSchema } from "./boot-info.ts";
import { type BootRole, denialReason } from "./policy.ts";
import type { AuthPorts } from "./ports.ts";

const MAX_BODY_BYTES = 256 * 1024;
/** What callers learn when the allowlist cannot be read; the log says more. */
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
      description: "The allowlist cannot be read",
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

/**
 * The authorisation webhook of a KMS: one allowlist file, read anew for each request, so a change
 * counts at once. A file that is missing or invalid denies everything.
 */
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
    const allowlist = await readAllowlist(ports);
    if (allowlist === undefined) return c.json({ status: "error", message: UNAVAILABLE }, 500);
    return c.json({
      status: "ok",
      kmsContractAddr: allowlist.kmsContractAddr,
      ethRpcUrl: "",
      gatewayAppId: allowlist.gatewayAppId,
      chainId: allowlist.chainId,
      appImplementation: allowlist.appImplementation,
      appAuthImplementation: allowlist.appImplementation,
    }, 200);
  });

  for (const role of ROLES) {
    app.openapi(bootRoute(role), async (c) => {
      const boot = c.req.valid("json");
      const allowlist = await readAllowlist(ports);
      const reason = allowlist === undefined ? UNAVAILABLE : denialReason(role, boot, allowlist);
      const decision: BootDecision = {
        isAllowed: reason === undefined,
        gatewayAppId: allowlist?.gatewayAppId ?? "",
        reason: reason ?? "",
      };
      decisions.add(1, { role, allowed: String(decision.isAllowed) });
      ports.logDecision({ role, boot, decision });
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

async function readiness(ports: AuthPorts): Promise<Record<string, boolean>> {
  return { allowlist: await readAllowlist(ports) !== undefined };
}

/** Whether decisions can be made: throws what is wrong with the allowlist. */
export async function checkAllowlist(ports: Pick<AuthPorts, "readAllowlist">): Promise<Allowlist> {
  let text: string;
  try {
    text = await ports.readAllowlist();
  } catch (cause) {
    throw new AppError("config/invalid", "Allowlist cannot be read", { cause });
  }
  return parseAllowlist(text);
}

async function readAllowlist(ports: AuthPorts): Promise<Allowlist | undefined> {
  try {
    return await checkAllowlist(ports);
  } catch (error) {
    ports.logError(error);
    return undefined;
  }
}

function invalidRequest(): BootDecision {
  return { isAllowed: false, gatewayAppId: "", reason: "invalid authorization request" };
}
