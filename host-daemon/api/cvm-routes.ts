import { createRoute, type OpenAPIHono, z } from "@hono/zod-openapi";
import { streamSSE } from "hono/streaming";
import { AppError } from "#core/errors/app-error.ts";
import { refuseInvalidInput } from "#core/http/problem.ts";
import type { Cvm, CvmEvent, CvmStore } from "../db/cvm-store.ts";
import type { Entry, Inventory } from "../vmm/inventory.ts";
import type { Launcher } from "../vmm/launcher.ts";
import { bootPhases } from "./boot-phases.ts";
import { type ImageStore } from "../images/image-store.ts";
import { type CvmStatus, statusOf } from "./cvm-status.ts";
import { teeOfCommandLine } from "../images/guest-image.ts";
import { toHex } from "#core/bytes/bytes.ts";

export interface CvmRoutePorts {
  readonly inventory: Inventory;
  readonly store: CvmStore;
  readonly launcher: Launcher;
  readonly images: ImageStore;
  readonly status: CvmStatus;
  /** A GET to the guest agent's public server. */
  readonly fetchAgent: (
    entry: Entry,
    pathAndQuery: string,
    signal: AbortSignal,
  ) => Promise<Response>;
}

const problem = { content: { "application/problem+json": { schema: z.unknown() } } };
const idParam = z.object({ id: z.string().regex(/^[A-Za-z0-9_-]{1,64}$/) });

const phaseSchema = z.object({
  name: z.string(),
  startedAtMs: z.int(),
  seconds: z.number().optional(),
});
const cvmSchema = z.object({
  id: z.string(),
  name: z.string(),
  appId: z.string(),
  instanceId: z.string(),
  composeHash: z.string(),
  image: z.string(),
  status: z.enum(["running", "exited", "stopping", "stopped", "removing"]),
  tee: z.enum(["none", "tdx", "simulated"]),
  accelerator: z.string().optional().openapi({ description: "kvm or tcg, once it was started" }),
  appUrl: z.string().optional().openapi({
    description: "Where the gateway serves the app's port 80, once the instance is known",
  }),
  bootProgress: z.string(),
  bootError: z.string(),
  startedAtMs: z.int().optional(),
  exitedAtMs: z.int().optional(),
  phases: z.array(phaseSchema),
}).openapi("Cvm");

const listRoute = createRoute({
  method: "get",
  path: "/v1/cvms",
  operationId: "listCvms",
  summary: "CVMs with their state and the phases of their latest boot",
  responses: {
    200: {
      description: "Oldest first",
      content: { "application/json": { schema: z.object({ cvms: z.array(cvmSchema) }) } },
    },
  },
});

const getRoute = createRoute({
  method: "get",
  path: "/v1/cvms/{id}",
  operationId: "getCvm",
  summary: "One CVM with the phases of its latest boot",
  request: { params: idParam },
  responses: {
    200: { description: "The CVM", content: { "application/json": { schema: cvmSchema } } },
    404: { description: "No such CVM", ...problem },
  },
});

const imageSchema = z.object({
  name: z.string(),
  version: z.string(),
  /** SHA-256 of sha256sum.txt, in hex: names the image to KMS and verifiers. */
  osImageHash: z.string(),
  commandLine: z.string(),
  tee: z.string().optional().openapi({ description: "TEE driver the command line selects" }),
}).openapi("Image");

const imageRoute = createRoute({
  method: "get",
  path: "/v1/images/{name}",
  operationId: "getImage",
  summary: "One image, after every file of its checksum list was verified",
  request: { params: z.object({ name: z.string() }) },
  responses: {
    200: { description: "The image", content: { "application/json": { schema: imageSchema } } },
    400: { description: "The image is not usable", ...problem },
    404: { description: "No such image", ...problem },
  },
});

const eventStream = {
  description: "Server-sent events: `event` names it, `data` is {cvmId, event, body, timestampMs}",
  content: { "text/event-stream": { schema: z.string() } },
};

const eventsRoute = createRoute({
  method: "get",
  path: "/v1/events",
  operationId: "followEvents",
  summary: "Events of all CVMs as they happen",
  responses: { 200: eventStream },
});

const cvmEventsRoute = createRoute({
  method: "get",
  path: "/v1/cvms/{id}/events",
  operationId: "followCvmEvents",
  summary: "Events of one CVM: those remembered, then as they happen",
  request: { params: idParam },
  responses: { 200: eventStream, 404: { description: "No such CVM", ...problem } },
});

const containerParams = idParam.extend({
  name: z.string().regex(/^[A-Za-z0-9][A-Za-z0-9_.-]{0,127}$/),
});
const containerQuery = z.object({
  follow: z.stringbool().default(false).openapi({ type: "boolean" }),
  tail: z.string().regex(/^(all|\d{1,9})$/).default("1000"),
  since: z.string().regex(/^\d{1,12}[smhd]?$/).optional(),
  timestamps: z.stringbool().default(false).openapi({ type: "boolean" }),
});

const containerLogRoute = createRoute({
  method: "get",
  path: "/v1/cvms/{id}/containers/{name}/logs",
  operationId: "getContainerLogs",
  summary: "A container's output, when the app publishes its logs",
  request: { params: containerParams, query: containerQuery },
  responses: {
    200: { description: "Text", content: { "text/plain": { schema: z.string() } } },
    404: { description: "No such CVM, or it does not publish logs", ...problem },
    503: { description: "The guest does not answer", ...problem },
  },
});

const CONTAINER_LOG_TIMEOUT_MS = 10_000;
const KEEP_ALIVE_MS = 15_000;

/** `/v1`: what pRPC has no room for. */
export function addCvmRoutes(app: OpenAPIHono, ports: CvmRoutePorts): void {
  const { inventory, store, launcher } = ports;

  const describe = async (entries: readonly Entry[]): Promise<z.infer<typeof cvmSchema>[]> => {
    const events = await store.eventsOf(entries.map(({ cvm }) => cvm.id));
    return await Promise.all(entries.map(async (entry) => {
      const { cvm, run } = entry;
      return {
        id: cvm.id,
        name: cvm.name,
        appId: cvm.appId,
        instanceId: cvm.instanceId,
        composeHash: cvm.composeHash,
        image: cvm.image,
        status: statusOf(entry),
        tee: launcher.teeOf(cvm.noTee),
        ...await appUrl(cvm),
        bootProgress: cvm.bootProgress,
        bootError: cvm.bootError,
        phases: bootPhases(events.filter(({ cvmId }) => cvmId === cvm.id)),
        ...(run === undefined
          ? {}
          : { accelerator: run.accelerator, startedAtMs: run.startedAtMs }),
        ...(run === undefined || run.exitedAtMs === null ? {} : { exitedAtMs: run.exitedAtMs }),
      };
    }));
  };
  const appUrl = async (cvm: Cvm) => {
    const url = await ports.status.gatewayUrl(cvm);
    return url === undefined ? {} : { appUrl: url };
  };

  app.openapi(listRoute, async (c) => c.json({ cvms: await describe(inventory.all()) }, 200));
  app.openapi(getRoute, async (c) => {
    const [cvm] = await describe([inventory.require(c.req.valid("param").id)]);
    return c.json(cvm!, 200);
  });

  app.openapi(imageRoute, async (c) => {
    const image = await ports.images.load(c.req.valid("param").name);
    const tee = teeOfCommandLine(image.commandLine);
    return c.json({
      name: image.name,
      version: image.version,
      osImageHash: toHex(image.osImageHash),
      commandLine: image.commandLine,
      ...(tee === undefined ? {} : { tee }),
    }, 200);
  });

  const follow = (c: Parameters<typeof streamSSE>[0], id: string | undefined) =>
    streamSSE(c, async (stream) => {
      const write = ({ id: eventId, cvmId, event, body, timestampMs }: CvmEvent) =>
        stream.writeSSE({
          id: String(eventId),
          event,
          data: JSON.stringify({ cvmId, event, body, timestampMs }),
        });
      const pending: CvmEvent[] = [];
      let wake = () => {};
      const unsubscribe = inventory.subscribe((event) => {
        if (id !== undefined && event.cvmId !== id) return;
        pending.push(event);
        wake();
      });
      const keepAlive = setInterval(() => wake(), KEEP_ALIVE_MS);
      stream.onAbort(() => wake());
      try {
        let last = 0;
        const remembered = id === undefined ? [] : await store.eventsOf([id]);
        for (const event of remembered) {
          await write(event);
          last = event.id;
        }
        while (!stream.aborted) {
          if (pending.length === 0) await stream.write(": still here\n\n");
          for (const event of pending.splice(0)) if (event.id > last) await write(event);
          if (pending.length === 0) await new Promise<void>((resolve) => wake = resolve);
        }
      } finally {
        clearInterval(keepAlive);
        unsubscribe();
      }
    });
  app.openapi(eventsRoute, (c) => follow(c, undefined));
  app.openapi(cvmEventsRoute, (c) => {
    const { id } = c.req.valid("param");
    inventory.require(id);
    return follow(c, id);
  });

  // A stream passed through: openapi() has no type for one.
  app.get("/v1/cvms/:id/containers/:name/logs", async (c) => {
    const { id, name } = accept(containerParams, c.req.param());
    const { follow, tail, since, timestamps } = accept(containerQuery, c.req.query());
    const entry = inventory.require(id);
    const query = new URLSearchParams({ text: "", bare: "", tail });
    if (since !== undefined) query.set("since", since);
    if (follow) query.set("follow", "");
    if (timestamps) query.set("timestamps", "");
    const signals = follow ? [c.req.raw.signal] : [
      c.req.raw.signal,
      AbortSignal.timeout(CONTAINER_LOG_TIMEOUT_MS),
    ];
    const answer = await ports.fetchAgent(
      entry,
      `/logs/${name}?${query}`,
      AbortSignal.any(signals),
    );
    if (answer.status === 404) {
      throw new AppError("resource/not-found", "This app does not publish its containers' logs");
    }
    if (!answer.ok) {
      throw new AppError("upstream/invalid", `The guest agent answered ${answer.status}`);
    }
    return new Response(answer.body, { headers: { "content-type": "text/plain; charset=utf-8" } });
  });
}

/** For the document, which needs no ports. */
export function registerCvmRoutes(registry: OpenAPIHono["openAPIRegistry"]): void {
  const routes = [listRoute, getRoute, imageRoute, eventsRoute, cvmEventsRoute, containerLogRoute];
  for (const route of routes) registry.registerPath(route);
}

function accept<T extends z.ZodType>(schema: T, value: unknown): z.infer<T> {
  const result = schema.safeParse(value);
  refuseInvalidInput(result);
  return result.data as z.infer<T>;
}
