import assert from "node:assert/strict";
import { test } from "node:test";
import { createRoute, OpenAPIHono, z } from "@hono/zod-openapi";
import { Hono } from "hono";
import { HTTPException } from "hono/http-exception";
import { AppError } from "../errors/app-error.ts";
import { apiAuth } from "./api-auth.ts";
import { noMetrics } from "./metrics.ts";
import { appVersionHeader, operationsRoutes } from "./operations.ts";
import { problemHandler, problemNotFound, refuseInvalidInput } from "./problem.ts";

const guarded = (tokens: string[], queryToken = true) =>
  new Hono()
    .use(apiAuth({ tokens, realm: "dstack-vmm API", queryToken }))
    .all("/", (c) => c.text(new URL(c.req.url).search));
const basic = (credentials: string) => `Basic ${btoa(credentials)}`;

for (
  const [what, status, headers, path, method] of [
    ["no credential", 401, {}],
    ["X-Admin-Token", 200, { "x-admin-token": "secret-1" }],
    ["another token of the list", 200, { "x-admin-token": "secret-2" }],
    ["a wrong X-Admin-Token", 401, { "x-admin-token": "secret" }],
    ["a wrong X-Admin-Token before a right bearer", 200, {
      "x-admin-token": "x",
      authorization: "Bearer secret-1",
    }],
    ["a bearer", 200, { authorization: "bearer secret-2" }],
    [
      "a wrong bearer, whatever the query says",
      401,
      { authorization: "Bearer x" },
      "?token=secret-1",
    ],
    ["Basic with a token as password", 200, { authorization: basic("any:secret-1") }],
    ["Basic with a token as user", 200, { authorization: basic("secret-1:") }],
    ["Basic without a colon", 200, { authorization: basic("secret-1") }],
    ["Basic with a token as user and a password", 401, { authorization: basic("secret-1:x") }],
    [
      "a readable Basic, whatever the query says",
      401,
      { authorization: basic("a:b") },
      "?token=secret-1",
    ],
    ["an unreadable Basic, then the query", 200, { authorization: "Basic ???" }, "?token=secret-1"],
    ["the query", 200, {}, "?token=secret-1"],
    ["the query of a POST", 401, {}, "?token=secret-1", "POST"],
    ["a wrong query", 401, {}, "?token="],
  ] as [string, number, Record<string, string>, string?, string?][]
) {
  test(`apiAuth() answers ${status} to ${what}`, async () => {
    const app = guarded(["secret-1", "", "secret-2"]);
    const response = await app.request(`/${path ?? ""}`, { headers, method: method ?? "GET" });
    assert.equal(response.status, status);
    if (status !== 401) return;
    assert.equal(await response.text(), "");
    assert.equal(response.headers.get("www-authenticate"), 'Basic realm="dstack-vmm API"');
  });
}

test("apiAuth() hides the query token from handlers and keeps the rest", async () => {
  const response = await guarded(["t"]).request("/?id=1&token=t&follow=true");
  assert.equal(await response.text(), "?id=1&follow=true");
});

test("apiAuth() without tokens refuses everyone", async () => {
  for (const header of ["", "x"]) {
    const headers = { "x-admin-token": header };
    assert.equal((await guarded([""]).request("/", { headers })).status, 401);
  }
});

test("apiAuth() ignores the query where it is switched off", async () => {
  assert.equal((await guarded(["t"], false).request("/?token=t")).status, 401);
});

function failing(error: Error) {
  const logged: unknown[] = [];
  const app = new Hono().get("/", () => {
    throw error;
  });
  app.onError(problemHandler((error) => logged.push(error)));
  app.notFound(problemNotFound);
  return { app, logged };
}

test("problemHandler() shows an AppError and does not log it", async () => {
  const { app, logged } = failing(
    new AppError("resource/conflict", "Port 80 is taken", { fields: { port: 80 } }),
  );
  const response = await app.request("/");
  assert.equal(response.status, 409);
  assert.equal(response.headers.get("content-type"), "application/problem+json");
  assert.deepEqual(await response.json(), {
    type: "urn:dstack-edge:error:resource/conflict",
    title: "Conflict with the current state",
    status: 409,
    detail: "Port 80 is taken",
    port: 80,
  });
  assert.deepEqual(logged, []);
});

test("problemHandler() hides an unexpected failure and logs it", async () => {
  const failure = new Error("password=hunter2");
  const { app, logged } = failing(failure);
  const response = await app.request("/");
  assert.equal(response.status, 500);
  assert.doesNotMatch(await response.text(), /hunter2/);
  assert.deepEqual(logged, [failure]);
});

test("problemHandler() keeps the status of Hono's own errors", async () => {
  const { app } = failing(new HTTPException(413, { message: "Payload Too Large" }));
  const response = await app.request("/");
  assert.equal(response.status, 413);
  assert.equal(response.headers.get("content-type"), "application/problem+json");
});

test("problemNotFound() names what is missing", async () => {
  const response = await failing(new Error()).app.request("/nope");
  assert.equal(response.status, 404);
  assert.equal((await response.json() as { detail: string }).detail, "No GET /nope here");
});

test("refuseInvalidInput() names every fault", async () => {
  const app = new OpenAPIHono({ defaultHook: refuseInvalidInput });
  app.onError(problemHandler(() => {}));
  const content = {
    "application/json": { schema: z.strictObject({ vcpu: z.int(), name: z.string() }) },
  };
  app.openapi(
    createRoute({
      method: "post",
      path: "/",
      request: { body: { content, required: true } },
      responses: { 204: { description: "Done" } },
    }),
    (c) => c.body(null, 204),
  );
  const response = await app.request("/", {
    method: "POST",
    headers: { "content-type": "application/json" },
    body: '{"vcpu":"2"}',
  });
  assert.equal(response.status, 400);
  const { faults } = await response.json() as { faults: { path: string }[] };
  assert.deepEqual(faults.map(({ path }) => path), ["vcpu", "name"]);
});

test("operationsRoutes() reports health, readiness, version and metrics", async () => {
  const version = { version: "0.1.0", rev: "git:00112233445566778899" };
  let database = true;
  const ready = () => Promise.resolve({ database, auth: true });
  const metrics = { ...noMetrics, text: () => Promise.resolve("up 1\n") };
  const app = new Hono().use(appVersionHeader(version))
    .route("/", operationsRoutes({ version, ready, metrics }));
  assert.deepEqual(await (await app.request("/healthz")).json(), { status: "ok" });
  assert.deepEqual(await (await app.request("/version")).json(), version);
  assert.equal((await app.request("/readyz")).status, 200);
  database = false;
  const notReady = await app.request("/readyz");
  assert.equal(notReady.status, 503);
  assert.deepEqual(await notReady.json(), {
    status: "not-ready",
    checks: { database: false, auth: true },
  });
  const scraped = await app.request("/metrics");
  assert.match(scraped.headers.get("content-type")!, /^text\/plain; version=0\.0\.4/);
  assert.equal(scraped.headers.get("x-app-version"), "v0.1.0 (git:00112233445566778899)");
  assert.equal(await scraped.text(), "up 1\n");
});

test("operationsRoutes() without metrics has no /metrics", async () => {
  const version = { version: "0.1.0", rev: "unknown" };
  const app = operationsRoutes({ version, metrics: noMetrics });
  assert.equal((await app.request("/metrics")).status, 404);
});
