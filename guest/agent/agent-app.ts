import { Hono } from "hono";
import { DstackGuest, Tappd, Worker } from "#core/rpc/gen/agent_pb.ts";
import { prpcRoutes } from "#core/rpc/server.ts";
import { appVersionHeader } from "#core/http/operations.ts";
import type { Agent } from "./agent.ts";
import { attestationRoute } from "./attestation-route.ts";
import { type ContainerPorts, containerRoutes } from "./container-routes.ts";
import { dstackGuestHandlers } from "./dstack-guest-service.ts";
import { tappdHandlers } from "./tappd-service.ts";
import { workerHandlers } from "./worker-service.ts";

const context = () => undefined;

/** dstack.sock: the reference's `/<Method>`, and the paths of its other listeners. */
export function dstackSocketApp(agent: Agent): Hono {
  const routes = prpcRoutes(DstackGuest, dstackGuestHandlers(agent), {
    trim: "DstackGuest.",
    context,
    asciiOnly: true,
  });
  return answeringInJson(new Hono().route("/prpc", routes).route("/", routes));
}

/** tappd.sock: Tappd under /prpc; clients that inherit from the newer ones call those methods too. */
export function tappdSocketApp(agent: Agent): Hono {
  const tappd = prpcRoutes(Tappd, tappdHandlers(agent), {
    trim: "Tappd.",
    context,
    asciiOnly: true,
  });
  const guest = prpcRoutes(DstackGuest, dstackGuestHandlers(agent), {
    trim: "DstackGuest.",
    context,
    asciiOnly: true,
  });
  const app = new Hono().route("/prpc", tappd);
  for (const { name } of Tappd.methods) {
    app.all(`/${name}`, (c) => tappd.fetch(c.req.raw));
    app.all(`/Tappd.${name}`, (c) => tappd.fetch(c.req.raw));
  }
  return answeringInJson(app.route("/", guest));
}

/** Port 8090, which the gateway and anyone who reaches the VM may ask. */
export function externalApp(agent: Agent, containers: ContainerPorts): Hono {
  const app = new Hono();
  app.use(appVersionHeader(agent.version));
  app.route(
    "/prpc",
    prpcRoutes(Worker, workerHandlers(agent), { trim: "Worker.", context, asciiOnly: true }),
  );
  app.route("/", attestationRoute(agent));
  app.route("/", containerRoutes(agent, containers));
  return answeringInJson(app);
}

/** Clients of dstack read an `error` member whatever went wrong. */
function answeringInJson(app: Hono): Hono {
  app.notFound((c) => c.json({ error: `Not found: ${c.req.path}` }, 404));
  return app;
}
