import { OpenAPIHono } from "@hono/zod-openapi";
import { AppError } from "#core/errors/app-error.ts";
import { apiAuth } from "#core/http/api-auth.ts";
import type { Metrics } from "#core/http/metrics.ts";
import { appVersionHeader, OPERATIONS_PATHS, operationsRoutes } from "#core/http/operations.ts";
import { problemHandler, problemNotFound, refuseInvalidInput } from "#core/http/problem.ts";
import { prpcOpenApi } from "#core/rpc/openapi.ts";
import { ProxiedGuestApi } from "#core/rpc/gen/guest_api_pb.ts";
import { Vmm as VmmService } from "#core/rpc/gen/vmm_pb.ts";
import { prpcRoutes } from "#core/rpc/server.ts";
import type { HostFiles } from "../vmm/ports.ts";
import { LOG_CHANNELS, type LogChannel } from "../vmm/work-directory.ts";
import { addCvmRoutes, type CvmRoutePorts, registerCvmRoutes } from "./cvm-routes.ts";
import { guestHandlers, type GuestServicePorts } from "./guest-service.ts";
import { refuseForeignPages } from "./foreign-page.ts";
import { logStream } from "./log-stream.ts";
import { vmmHandlers, type VmmServicePorts } from "./vmm-service.ts";

export interface ApiPorts extends VmmServicePorts, CvmRoutePorts, GuestServicePorts {
  readonly files: HostFiles;
  readonly metrics: Metrics;
  /** The console, one HTML file; undefined when it was not built. */
  readonly consolePage: () => Promise<Uint8Array | undefined>;
  readonly logError: (error: unknown) => void;
}

const AUTH_REALM = "dstack-vmm API";
const DEFAULT_LOG_LINES = 10_000;

/** The operators' interface: pRPC, `/logs`, `/v1`, the console. */
export function createApi(ports: ApiPorts): OpenAPIHono {
  const { config, version, inventory, launcher, files } = ports;
  const app = new OpenAPIHono({ defaultHook: refuseInvalidInput });
  app.onError(problemHandler(ports.logError));
  app.notFound(problemNotFound);
  app.use(appVersionHeader(version));
  app.use(async (c, next) => {
    await next();
    c.res.headers.set("x-accel-buffering", "no");
  });
  app.use(refuseForeignPages({ namedHosts: config.auth.enabled }));
  const auth = config.auth.enabled
    ? apiAuth({ tokens: config.auth.tokens, realm: AUTH_REALM, queryToken: true })
    : undefined;
  if (auth !== undefined) app.use("/metrics", auth);
  // The other probes carry no credentials and learn nothing.
  app.route(
    "/",
    operationsRoutes({
      version,
      metrics: ports.metrics,
      ready: async () => ({ database: await succeeds(ports.store.ping()) }),
    }),
  );
  if (auth !== undefined) app.use(auth);
  const handlers = vmmHandlers(ports);
  const guest = guestHandlers(ports);
  const observed = {
    context: () => {},
    observe: ({ error }: { error?: unknown }) => {
      if (error !== undefined && !(error instanceof AppError)) ports.logError(error);
    },
  };
  app.route("/prpc", prpcRoutes(VmmService, handlers, { ...observed, trim: ["Teepod.", "Vmm."] }));
  app.route("/guest", prpcRoutes(ProxiedGuestApi, guest, observed));
  app.get("/logs", (c) => {
    const id = c.req.query("id") ?? "";
    const entry = inventory.find(id);
    if (entry === undefined) return c.text("VM not found", 404);
    const channel = c.req.query("ch") ?? "serial";
    if (!isLogChannel(channel)) return c.text(`Unknown channel ${channel.slice(0, 20)}`, 400);
    const body = logStream({
      path: launcher.workDirectory(entry.cvm.id).log(channel),
      lines: Number(c.req.query("lines") ?? DEFAULT_LOG_LINES) || DEFAULT_LOG_LINES,
      follow: isTrue(c.req.query("follow")),
      ansi: isTrue(c.req.query("ansi")),
    }, files);
    return c.body(body, 200, { "content-type": "text/plain; charset=utf-8" });
  });
  addCvmRoutes(app, ports);
  for (const path of ["/openapi.json", "/api-docs/openapi.json"]) {
    app.get(path, (c) => c.json(openApiDocument(version.version)));
  }
  for (const path of ["/", "/v1", "/beta"]) {
    app.get(path, async (c) => {
      const page = await ports.consolePage();
      if (page === undefined) return await problemNotFound(c);
      return c.body(page.slice(), 200, {
        "content-type": "text/html; charset=utf-8",
        // The page's own policy allows its script and style by digest; this part needs a header.
        "content-security-policy": "frame-ancestors 'none'",
        "x-content-type-options": "nosniff",
        "referrer-policy": "no-referrer",
        "cache-control": "no-cache",
      });
    });
  }
  return app;
}

/** OpenAPI 3.1 of everything `createApi` serves. */
export function openApiDocument(version: string): Record<string, unknown> {
  const app = new OpenAPIHono();
  registerCvmRoutes(app.openAPIRegistry);
  const own = app.getOpenAPI31Document({
    openapi: "3.1.0",
    info: { title: "dstack-vmm RPC", version },
    servers: [{ url: "/" }],
  });
  const rpc = prpcOpenApi([
    { service: VmmService, path: "/prpc", methods: SERVED_METHODS },
    { service: ProxiedGuestApi, path: "/guest" },
  ]);
  return {
    ...own,
    paths: { ...OPERATIONS_PATHS, ...LOGS_PATH, ...rpc.paths, ...own.paths },
    components: {
      ...own.components,
      schemas: { ...rpc.components.schemas, ...own.components?.schemas },
    },
  };
}

/** Methods of `vmm.Vmm` that `vmmHandlers` answers. */
const SERVED_METHODS = [
  "CreateVm",
  "StartVm",
  "StopVm",
  "RemoveVm",
  "ShutdownVm",
  "UpdateVm",
  "UpgradeApp",
  "ResizeVm",
  "GetComposeHash",
  "Status",
  "GetInfo",
  "ListImages",
  "DeleteImage",
  "GetAppEnvEncryptPubKey",
  "Version",
  "GetMeta",
  "ListGpus",
  "SvList",
];

const query = (name: string, schema: unknown, required = false) => ({
  name,
  in: "query",
  required,
  schema,
});
const LOGS_PATH = {
  "/logs": {
    get: {
      operationId: "getLogs",
      summary: "Serial output of a CVM, or what its QEMU printed",
      parameters: [
        query("id", { type: "string" }, true),
        query("ch", { type: "string", enum: LOG_CHANNELS, default: "serial" }),
        query("lines", { type: "integer", default: DEFAULT_LOG_LINES }),
        query("follow", { type: "boolean", default: false }),
        query("ansi", { type: "boolean", default: false }),
      ],
      responses: {
        200: { description: "Text", content: { "text/plain": { schema: { type: "string" } } } },
        400: { description: "Unknown channel" },
        404: { description: "VM not found" },
      },
    },
  },
} as const;

function isLogChannel(text: string): text is LogChannel {
  return (LOG_CHANNELS as readonly string[]).includes(text);
}

function isTrue(text: string | undefined): boolean {
  return text !== undefined && ["", "true", "1", "yes", "on"].includes(text);
}

async function succeeds(check: Promise<void>): Promise<boolean> {
  return await check.then(() => true, () => false);
}
