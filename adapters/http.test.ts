import assert from "node:assert/strict";
import { mkdtemp, rm, stat, writeFile } from "node:fs/promises";
import { connect } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, test } from "node:test";
import { Hono } from "hono";
import type { ConnectionBindings } from "#core/http/bindings.ts";
import { prpcClient } from "#core/rpc/client.ts";
import { DstackGuest } from "#core/rpc/gen/agent_pb.ts";
import { prpcRoutes } from "#core/rpc/server.ts";
import { serveHttp } from "./http-server.ts";
import { inheritedSockets, serveUnix, unixFetch } from "./unix-http.ts";
import { makeWebFetch } from "./web-fetch.ts";

const folder = await mkdtemp(join(tmpdir(), "unix-"));
const path = join(folder, "dstack.sock");
const app = new Hono<{ Bindings: ConnectionBindings }>();
app.get("/address", (c) => c.text(c.env.remoteAddress ?? "none"));
app.get("/stream", (c) => {
  let left = 3;
  return c.body(
    new ReadableStream({
      async pull(controller) {
        await new Promise((resolve) => setTimeout(resolve, 5));
        if (left-- === 0) controller.close();
        else controller.enqueue(new TextEncoder().encode(`${left} `));
      },
    }),
  );
});
app.get("/slow", () => new Promise<Response>(() => {}));
app.route(
  "/",
  prpcRoutes(DstackGuest, {
    version: async () => {
      await new Promise((resolve) => setTimeout(resolve, 20));
      return { version: "0.6.0", rev: "unknown" };
    },
  }, { context: () => undefined, asciiOnly: true }),
);

const unix = await serveUnix(app.fetch, { socket: { path, mode: 0o777 } });
after(async () => {
  await unix.close(0);
  await rm(folder, { recursive: true });
});

/** Sends exactly `text`, then ends its half, and gives back all that comes until the server ends. */
function exchange(text: string, halfClose = true): Promise<string> {
  return new Promise((resolve, reject) => {
    let answer = "";
    const socket = connect(path, () => halfClose ? socket.end(text) : socket.write(text));
    socket.setTimeout(3000, () => socket.destroy(new Error(`no end after ${answer}`)));
    socket.on("data", (chunk) => answer += chunk);
    socket.on("end", () => resolve(answer));
    socket.on("error", reject);
  });
}

test("the pRPC client talks to the socket", async () => {
  const client = prpcClient(DstackGuest, { baseUrl: "http://localhost", fetch: unixFetch(path) });
  assert.equal((await client.version()).version, "0.6.0");
});

test("the socket has the mode asked for", async () => {
  assert.equal((await stat(path)).mode & 0o777, 0o777);
});

const BODY = '{"version":"0.6.0","rev":"unknown"}';

test("a client that ends its half after the request is still answered, and then the end", async () => {
  const started = performance.now();
  const answer = await exchange(
    "POST /Version?json HTTP/1.1\r\nHost: localhost\r\nContent-Length: 2\r\n\r\n{}",
  );
  assert.match(answer, /^HTTP\/1\.1 200 /);
  assert.match(answer, new RegExp(`\r\nContent-Length: ${BODY.length}\r\n`, "i"));
  assert.ok(answer.endsWith(`\r\n\r\n${BODY}`), answer);
  assert.ok(performance.now() - started < 2000);
});

test("a request without a Host header is answered", async () => {
  const answer = await exchange(
    "POST /Version?json HTTP/1.1\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n{}",
  );
  assert.match(answer, /^HTTP\/1\.1 200 /);
});

test("a Host header that is no host is no obstacle", async () => {
  const answer = await exchange(
    "GET /Version HTTP/1.1\r\nHost: /var/run/dstack.sock\r\nConnection: close\r\n\r\n",
    false,
  );
  assert.match(answer, /^HTTP\/1\.1 200 /);
});

test("a body shorter than its bytes is answered 400 and the connection ends", async () => {
  const answer = await exchange(
    'POST /Version?json HTTP/1.1\r\nHost: x\r\nContent-Length: 8\r\n\r\n{"é":"é"}garbage',
  );
  assert.match(answer, /^HTTP\/1\.1 (200|400) /);
});

test("answers are whole unless streams are asked for", async () => {
  const text = await exchange(
    "GET /stream HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n",
    false,
  );
  assert.match(text, /\r\nContent-Length: 6\r\n/i);
  assert.doesNotMatch(text, /chunked/i);
  assert.ok(text.endsWith("2 1 0 "));
  const streaming = join(folder, "stream.sock");
  const other = await serveUnix(app.fetch, { socket: { path: streaming }, wholeAnswers: false });
  const response = await unixFetch(streaming)("http://localhost/stream", {
    method: "GET",
    headers: {},
  });
  assert.equal(response.headers.get("content-length"), null);
  assert.equal(await response.text(), "2 1 0 ");
  await other.close(0);
});

test("a stale socket is replaced, one in use and a file are not", async () => {
  const stale = join(folder, "stale.sock");
  const first = await serveUnix(app.fetch, { socket: { path: stale } });
  await assert.rejects(serveUnix(app.fetch, { socket: { path: stale } }), {
    code: "resource/conflict",
    message: `Cannot listen on ${stale}: it is in use`,
  });
  await first.close(0);
  await writeFile(join(folder, "file"), "mine");
  await assert.rejects(serveUnix(app.fetch, { socket: { path: join(folder, "file") } }), {
    message: `Cannot listen on ${folder}/file: a file is in the way`,
  });
});

test("unixFetch() gives up in time and names a socket nobody listens on", async () => {
  const get = { method: "GET", headers: {} };
  await assert.rejects(unixFetch(path, { timeoutMs: 100 })("http://localhost/slow", get), {
    code: "upstream/unavailable",
    message: `Request to ${path} took longer than 100 ms`,
  });
  await assert.rejects(unixFetch(join(folder, "none"))("http://localhost/", get), {
    code: "upstream/unavailable",
    message: `Cannot reach ${folder}/none`,
  });
});

test("inheritedSockets() trusts only variables meant for this process", () => {
  assert.deepEqual(inheritedSockets(), []);
});

test("serveHttp() tells the peer's address and refuses a port in use", async () => {
  const tcp = await serveHttp(app.fetch, { host: "127.0.0.1", port: 0 });
  const fetch = makeWebFetch({ timeoutMs: 5000 });
  const get = { method: "GET", headers: {} };
  const response = await fetch(`http://127.0.0.1:${tcp.port}/address`, get);
  assert.equal(await response.text(), "127.0.0.1");
  await assert.rejects(serveHttp(app.fetch, { host: "127.0.0.1", port: tcp.port }), {
    code: "resource/conflict",
  });
  await assert.rejects(
    makeWebFetch({ timeoutMs: 100 })(`http://127.0.0.1:${tcp.port}/slow`, get),
    { code: "upstream/unavailable" },
  );
  await tcp.close(0);
  await assert.rejects(fetch(`http://127.0.0.1:${tcp.port}/address`, get), {
    code: "upstream/unavailable",
    message: `Cannot reach 127.0.0.1:${tcp.port}`,
  });
});
