import { createRoute, OpenAPIHono, z } from "@hono/zod-openapi";
import { apiAuth } from "#core/http/api-auth.ts";
import { problemHandler, problemNotFound, refuseInvalidInput } from "#core/http/problem.ts";
import { AppError } from "#core/errors/app-error.ts";
import { Admin } from "#core/rpc/gen/kms_pb.ts";
import { prpcOpenApi } from "#core/rpc/openapi.ts";
import { prpcRoutes } from "#core/rpc/server.ts";
import { decisionToJson } from "#functions/db/kms-decisions.ts";
import { manifestSchema } from "./epoch-app.ts";
import { kmsMetrics } from "./metrics.ts";
import { fetchEpochs, type PeerFetch } from "./onboard.ts";
import type { KmsPorts } from "./ports.ts";

/** What verification keeps of OS images, by hash. */
export interface ImageCache {
  /** `hash`: lower-case hex, or "all". Nothing happens where there is none. */
  readonly clear: (kind: "images" | "measurements", hash: string) => Promise<void>;
}

export interface AdminAuth {
  readonly token: string | undefined;
  /** Users of the htpasswd file. */
  readonly password: ((user: string, password: string) => Promise<boolean>) | undefined;
}

export interface AdminPorts extends KmsPorts {
  readonly peerFetch: PeerFetch;
  readonly imageCache: ImageCache;
  /** Undefined only where the operator asked for no authentication. */
  readonly auth: AdminAuth | undefined;
}

const MAX_PAGE = 500;

const decisionSchema = z.object({
  id: z.int(),
  decided_at: z.iso.datetime(),
  request_id: z.string(),
  method: z.string(),
  outcome: z.enum(["released", "denied"]),
  reason: z.string().openapi({ description: "Stable code; empty when released" }),
  detail: z.string(),
  tee: z.string(),
  simulated: z.boolean(),
  trust_anchor: z.string(),
  app_id: z.string(),
  instance_id: z.string(),
  compose_hash: z.string(),
  device_id: z.string(),
  os_image_hash: z.string(),
  mr_system: z.string(),
  mr_aggregated: z.string(),
  tcb_status: z.string(),
  advisory_ids: z.array(z.string()),
  evidence_digest: z.string(),
  rule: z.string().openapi({ description: "What the auth service says decided" }),
  epoch: z.int().openapi({ description: "Newest epoch of the keys released" }),
  block_number: z.int().nullable(),
  block_hash: z.string(),
}).openapi("KmsDecision");

const listRoute = createRoute({
  method: "get",
  path: "/v1/decisions",
  operationId: "listDecisions",
  summary: "Decisions about keys and certificates, newest first",
  request: {
    query: z.object({
      limit: z.coerce.number().int().min(1).max(MAX_PAGE).default(100),
      before: z.coerce.number().int().positive().optional().openapi({
        description: "Only decisions with a smaller id",
      }),
      app_id: z.string().regex(/^[0-9a-f]{40}$/).optional(),
      outcome: z.enum(["released", "denied"]).optional(),
    }),
  },
  responses: {
    200: {
      description: "Decisions",
      content: { "application/json": { schema: z.object({ decisions: z.array(decisionSchema) }) } },
    },
    401: { description: "Wrong or no token" },
  },
});

const rotateRoute = createRoute({
  method: "post",
  path: "/v1/epochs",
  operationId: "rotate",
  summary: "Make the next epoch of the root keys, or finish making it",
  responses: {
    200: {
      description: "All epochs now",
      content: { "application/json": { schema: manifestSchema } },
    },
    401: { description: "Wrong or no token" },
    409: { description: "Another KMS made one at the same time: fetch it" },
  },
});

const fetchRoute = createRoute({
  method: "post",
  path: "/v1/epochs/fetch",
  operationId: "fetchEpochs",
  summary: "Take over the epochs that another KMS of this deployment made",
  request: {
    body: {
      required: true,
      content: {
        "application/json": { schema: z.strictObject({ source_url: z.url().max(2048) }) },
      },
    },
  },
  responses: {
    200: {
      description: "All epochs now",
      content: { "application/json": { schema: manifestSchema } },
    },
    401: { description: "Wrong or no token" },
    403: { description: "One side does not allow the other" },
  },
});

const ROUTES = [listRoute, rotateRoute, fetchRoute];

/** The operator's interface, on a listener of its own; every path needs the token. */
export function createAdminApp(ports: AdminPorts): OpenAPIHono {
  const app = new OpenAPIHono({ defaultHook: refuseInvalidInput });
  app.onError(problemHandler((error) => ports.log.error("answering an admin request", error)));
  app.notFound(problemNotFound);
  if (ports.auth !== undefined) {
    const { token = "", password } = ports.auth;
    const realm = "dstack-kms admin";
    app.use(apiAuth({ tokens: [token], realm, queryToken: false, ...password && { password } }));
  }
  const counted = kmsMetrics(ports.metrics);
  app.route("/prpc", adminRpc(ports));
  app.openapi(listRoute, async (c) => {
    const { limit, before, app_id: appId, outcome } = c.req.valid("query");
    const decisions = await ports.decisions.list({ limit, before, appId, outcome });
    return c.json({ decisions: decisions.map(decisionToJson) }, 200);
  });
  app.openapi(rotateRoute, async (c) => {
    const { epoch } = await ports.epochs.rotate(ports);
    counted.epoch(epoch);
    return c.json(await ports.epochs.manifest(ports.now()), 200);
  });
  app.openapi(fetchRoute, async (c) => {
    await fetchEpochs(ports, c.req.valid("json").source_url);
    counted.epoch(ports.epochs.list().length - 1);
    return c.json(await ports.epochs.manifest(ports.now()), 200);
  });
  app.get("/openapi.json", (c) => c.json(kmsAdminOpenApi(ports.version.version)));
  return app;
}

/** The reference's Admin service (kms.md 2.2). */
function adminRpc({ imageCache }: AdminPorts) {
  return prpcRoutes(Admin, {
    clearImageCache: async ({ imageHash, configHash }) => {
      const hashes = [["images", imageHash], ["measurements", configHash]] as const;
      for (const [, hash] of hashes) requireCacheKey(hash);
      for (const [kind, hash] of hashes) {
        if (hash !== "") await imageCache.clear(kind, hash.toLowerCase());
      }
      return {};
    },
  }, { trim: "Admin.", context: () => undefined });
}

/** A key becomes a file name: nothing but hex passes. */
function requireCacheKey(key: string): void {
  if (key !== "all" && !/^[0-9a-fA-F]{0,128}$/.test(key)) {
    throw new AppError("input/malformed", "invalid cache key");
  }
}

/** The document of `/openapi.json`. */
export function kmsAdminOpenApi(version: string): object {
  const described = new OpenAPIHono();
  for (const route of ROUTES) described.openAPIRegistry.registerPath(route);
  const document = described.getOpenAPI31Document({
    openapi: "3.1.0",
    info: { title: "dstack KMS admin", version },
  });
  const rpc = prpcOpenApi([{ service: Admin, path: "/prpc" }]);
  return {
    ...document,
    paths: { ...document.paths, ...rpc.paths },
    components: {
      ...document.components,
      schemas: { ...document.components?.schemas, ...rpc.components.schemas },
    },
  };
}
