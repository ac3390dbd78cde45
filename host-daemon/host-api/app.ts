import { Hono } from "hono";
import { cors } from "hono/cors";
import { fromHex, toHex } from "#core/bytes/bytes.ts";
import { JsonObject } from "#core/encoding/json-object.ts";
import { parseStrictJson } from "#core/encoding/strict-json.ts";
import { AppError } from "#core/errors/app-error.ts";
import { problemResponse } from "#core/errors/problem.ts";
import { HostApi } from "#core/rpc/gen/host_api_pb.ts";
import { prpcRoutes, readBody } from "#core/rpc/server.ts";
import type { SimulatedPlatform } from "#core/tdx/simulated-platform.ts";
import type { Entry } from "../vmm/inventory.ts";
import { type SimulatedTds } from "./simulated-td.ts";

export interface HostApiPorts {
  readonly version: string;
  /** The CVM a bearer token belongs to; constant time. */
  readonly findByToken: (token: string) => Entry | undefined;
  readonly notify: (entry: Entry, event: string, payload: string) => Promise<void>;
  /** Absent on hosts with a TEE. */
  readonly simulatedTee?: {
    readonly tds: SimulatedTds;
    readonly platform: SimulatedPlatform;
  };
  readonly now: () => Date;
  readonly logError: (error: unknown) => void;
}

/** Report data and digests are the largest things a guest sends to the simulated TEE. */
const MAX_TEE_REQUEST_BYTES = 4096;

/**
 * What guests may ask of their host. Guests on user networking all come from the same loopback address,
 * so each proves which VM it is with the token that its own host share holds.
 */
export function createHostApi(ports: HostApiPorts): Hono {
  const app = new Hono();
  app.onError((error) => {
    if (!(error instanceof AppError)) ports.logError(error);
    return problemResponse(error);
  });
  const requireGuest = (request: Request): Entry => {
    const token = /^Bearer ([0-9a-f]{64})$/.exec(request.headers.get("authorization") ?? "")?.[1];
    const entry = token === undefined ? undefined : ports.findByToken(token);
    if (entry === undefined) {
      throw new AppError("auth/unauthenticated", "VM not found: the Host API token is not known");
    }
    return entry;
  };

  app.route(
    "/api",
    prpcRoutes(HostApi, {
      info: () => ({ name: "dstack VMM", version: ports.version }),
      notify: async ({ event, payload }, entry: Entry) => {
        await ports.notify(entry, event, payload);
        return {};
      },
      getSealingKey: () => {
        throw new AppError("input/unsupported", "Key provider is not enabled");
      },
    }, { context: (c) => requireGuest(c.req.raw) }),
  );

  const tee = ports.simulatedTee;
  if (tee === undefined) return app;
  /** A TD that does not run has no registers to extend or quote. */
  const requireRunning = (request: Request): Entry => {
    const entry = requireGuest(request);
    if (!entry.running) throw new AppError("cvm/state", "This VM does not run");
    return entry;
  };
  app.post("/v1/tee/quote", async (c) => {
    const entry = requireRunning(c.req.raw);
    const body = await jsonBody(c.req.raw);
    const reportData = body.hex("report_data", 64);
    const quote = await tee.tds.quote(entry.cvm.id, reportData);
    return c.json({ quote: toHex(quote) });
  });
  app.post("/v1/tee/extend", async (c) => {
    const entry = requireRunning(c.req.raw);
    const body = await jsonBody(c.req.raw);
    const digest = fromHex(body.string("digest"), "digest", 48);
    await tee.tds.extend(entry.cvm.id, body.unsigned("index", 3), digest);
    return c.json({});
  });
  app.get("/v1/tee/ccel", async (c) => {
    const ccel = await tee.tds.ccel(requireRunning(c.req.raw).cvm.id);
    return c.body(ccel.slice(), 200, { "content-type": "application/octet-stream" });
  });
  // Public, and of use to a verify page on any origin: issuer chains stand in headers.
  const anyOrigin = cors({ origin: "*", allowMethods: ["GET"], exposeHeaders: ["*"] });
  for (const path of ["/v1/tee/root.pem", "/sgx/certification/*", "/tdx/certification/*"]) {
    app.use(path, anyOrigin);
  }
  app.get("/v1/tee/root.pem", (c) => c.text(tee.platform.rootCertificatePem));
  const pccs = (request: Request): Response => {
    const url = new URL(request.url);
    const answer = tee.platform.pccs(url.pathname, url.searchParams, ports.now());
    if (answer === undefined) throw new AppError("resource/not-found", "No such collateral");
    return new Response(answer.body.slice(), {
      status: answer.status,
      headers: { ...answer.headers },
    });
  };
  app.get("/sgx/certification/*", (c) => pccs(c.req.raw));
  app.get("/tdx/certification/*", (c) => pccs(c.req.raw));
  return app;
}

async function jsonBody(request: Request): Promise<JsonObject> {
  const bytes = await readBody(request, MAX_TEE_REQUEST_BYTES);
  return new JsonObject(parseStrictJson(bytes, "request"), "request");
}
