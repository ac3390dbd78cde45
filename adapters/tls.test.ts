import assert from "node:assert/strict";
import { X509Certificate } from "node:crypto";
import { connect as connectTcp, createServer as createTcpServer, type Socket } from "node:net";
import { after, test } from "node:test";
import { connect as connectTls, createServer as createTlsServer } from "node:tls";
import { Hono } from "hono";
import { AppError } from "#core/errors/app-error.ts";
import type { ConnectionBindings } from "#core/http/bindings.ts";
import { readResponse } from "#core/http/response-body.ts";
import { serveHttps } from "./https-server.ts";
import { createTestCertificates } from "./test-certificates.ts";
import { makeTlsFetch, type TlsFetchOptions } from "./tls-fetch.ts";

const certificates = await createTestCertificates();
const { caPem, otherCaPem, server, client, stranger, expiredClient } = certificates;

const requests: string[] = [];
const app = new Hono<{ Bindings: ConnectionBindings }>();
app.all("/echo", async (c) => {
  const body = await c.req.text();
  requests.push(body);
  const { peerCertificate, remoteAddress } = c.env;
  const peer = peerCertificate && new X509Certificate(peerCertificate).subject;
  return c.json({ method: c.req.method, body, peer, remoteAddress, host: new URL(c.req.url).host });
});
app.get("/big", (c) => c.body(new Uint8Array(100_000)));
app.get("/slow", () => new Promise<Response>(() => {}));
app.get("/redirect", (c) => c.redirect("/echo"));

const listening = await serveHttps((request, bindings) => app.fetch(request, bindings), {
  host: "127.0.0.1",
  port: 0,
  ...server,
  clientCaPem: caPem,
});
after(() => listening.close(0));

const base = `https://127.0.0.1:${listening.port}`;
const fetchWith = (options: Partial<TlsFetchOptions>) =>
  makeTlsFetch({ verify: "ca", checkHostname: true, caPem, ...options });
const get = { method: "GET", headers: {} };

test("a server under the CA is reached and sees method, body, host and address", async () => {
  const response = await fetchWith({})(`${base}/echo`, {
    method: "POST",
    headers: { "content-type": "text/plain" },
    body: "naïve",
  });
  assert.deepEqual(await response.json(), {
    method: "POST",
    body: "naïve",
    remoteAddress: "127.0.0.1",
    host: `127.0.0.1:${listening.port}`,
  });
});

test("a client certificate under the CA is handed to handlers", async () => {
  const response = await fetchWith(client)(`${base}/echo`, get);
  assert.equal((await response.json() as { peer: string }).peer, "CN=client");
});

test("a client certificate that does not chain, or has expired, is refused before dispatch", async () => {
  for (const identity of [stranger, expiredClient]) {
    requests.length = 0;
    const response = await fetchWith(identity)(`${base}/echo?json`, {
      method: "POST",
      headers: {},
      body: "x",
    });
    assert.equal(response.status, 400);
    assert.deepEqual(await response.json(), { error: "Client certificate is not trusted" });
    assert.deepEqual(requests, []);
  }
});

test("a client certificate without the issuer's is refused", async () => {
  const leafOnly = client.certPem.split(/(?<=-----END CERTIFICATE-----)/)[0]!;
  const response = await fetchWith({ ...client, certPem: leafOnly })(`${base}/echo`, get);
  assert.equal(response.status, 400);
});

test("a server under another CA is refused", async () => {
  requests.length = 0;
  await assert.rejects(fetchWith({ caPem: otherCaPem })(`${base}/echo`, get), {
    code: "upstream/untrusted",
  });
  assert.deepEqual(requests, []);
});

test("the system's roots do not help a server when a CA is given, nor the CA without it", async () => {
  const systemRoots = makeTlsFetch({ verify: "ca", checkHostname: true });
  await assert.rejects(systemRoots(`${base}/echo`, get), { code: "upstream/untrusted" });
});

test("the host name is checked when asked", async () => {
  const other = await serveHttps(app.fetch, { host: "127.0.0.2", port: 0, ...server });
  const url = `https://127.0.0.2:${other.port}/echo`;
  try {
    await assert.rejects(fetchWith({})(url, get), { code: "upstream/untrusted" });
    assert.equal((await fetchWith({ checkHostname: false })(url, get)).status, 200);
  } finally {
    await other.close(0);
  }
  assert.throws(() => makeTlsFetch({ verify: "none", checkHostname: true }), TypeError);
});

test("onPeerCertificate() sees the leaf and refuses before any byte of the request", async () => {
  requests.length = 0;
  let seen: string | undefined;
  for (const verify of ["ca", "none"] as const) {
    const refusing = fetchWith({
      verify,
      checkHostname: false,
      onPeerCertificate: async (der) => {
        seen = new X509Certificate(der).subject;
        await new Promise((resolve) => setTimeout(resolve, 20));
        throw new AppError("attestation/missing", "No attestation in the certificate");
      },
    });
    await assert.rejects(
      refusing(`${base}/echo`, { method: "POST", headers: {}, body: "secret" }),
      {
        code: "attestation/missing",
      },
    );
  }
  assert.equal(seen, "CN=server");
  assert.deepEqual(requests, []);
});

test("a refused server receives nothing at all inside TLS", async () => {
  let received = 0;
  const silent = createTlsServer({ cert: server.certPem, key: server.keyPem }, (socket) => {
    socket.on("data", (chunk) => received += chunk.length);
    socket.on("error", () => {});
  });
  await new Promise<void>((resolve) => silent.listen(0, "127.0.0.1", resolve));
  const { port } = silent.address() as { port: number };
  const refusing = makeTlsFetch({
    verify: "none",
    checkHostname: false,
    onPeerCertificate: async () => {
      await new Promise((resolve) => setTimeout(resolve, 50));
      throw new TypeError("no");
    },
  });
  await assert.rejects(
    refusing(`https://127.0.0.1:${port}/`, { method: "POST", headers: {}, body: "secret" }),
    { code: "upstream/untrusted" },
  );
  await new Promise((resolve) => setTimeout(resolve, 50));
  assert.equal(received, 0);
  await new Promise((resolve) => silent.close(resolve));
});

test("verify none reaches a server under any CA", async () => {
  const response = await fetchWith({ verify: "none", checkHostname: false, caPem: otherCaPem })(
    `${base}/echo`,
    get,
  );
  assert.equal(response.status, 200);
});

test("an answer over the limit is refused", async () => {
  const response = await fetchWith({ maxResponseBytes: 1000 })(`${base}/big`, get);
  await assert.rejects(readResponse(response, 1 << 20, "test"), {
    code: "upstream/invalid",
    message: /answered more than 1000 bytes/,
  });
});

test("redirects are not followed", async () => {
  const response = await fetchWith({})(`${base}/redirect`, get);
  assert.equal(response.status, 302);
  assert.equal(response.headers.get("location"), "/echo");
});

test("a server that does not answer in time is unavailable", async () => {
  await assert.rejects(fetchWith({ timeoutMs: 200 })(`${base}/slow`, get), {
    code: "upstream/unavailable",
    message: `Request to 127.0.0.1:${listening.port} took longer than 200 ms`,
  });
});

test("a server that does not finish TLS in time is unavailable", async () => {
  const sockets: Socket[] = [];
  const mute = createTcpServer((socket) => sockets.push(socket));
  await new Promise<void>((resolve) => mute.listen(0, "127.0.0.1", resolve));
  const { port } = mute.address() as { port: number };
  await assert.rejects(fetchWith({ connectTimeoutMs: 100 })(`https://127.0.0.1:${port}/`, get), {
    code: "upstream/unavailable",
    message: `Connecting to 127.0.0.1:${port} took longer than 100 ms`,
  });
  sockets.forEach((socket) => socket.destroy());
  await new Promise((resolve) => mute.close(resolve));
});

test("nobody listening is unavailable", async () => {
  await assert.rejects(fetchWith({})("https://127.0.0.1:1/", get), {
    code: "upstream/unavailable",
    message: "Cannot connect to 127.0.0.1:1",
  });
});

test("the caller can abort", async () => {
  const signal = AbortSignal.timeout(100);
  await assert.rejects(fetchWith({})(`${base}/slow`, { ...get, signal }), { name: "TimeoutError" });
});

test("plain http is a mistake of the caller", async () => {
  await assert.rejects(fetchWith({})("http://127.0.0.1/", get), TypeError);
});

test("a port in use is a conflict", async () => {
  const { port } = listening;
  await assert.rejects(serveHttps(app.fetch, { host: "127.0.0.1", port, ...server }), {
    code: "resource/conflict",
    message: `Cannot listen on 127.0.0.1:${port}: it is already taken`,
  });
});

test("replaceIdentity() serves the new certificate to new connections", async () => {
  const own = await serveHttps(app.fetch, { host: "127.0.0.1", port: 0, ...server });
  const subjects: string[] = [];
  const watching = fetchWith({
    onPeerCertificate: (der) => void subjects.push(new X509Certificate(der).subject),
  });
  await (await watching(`https://127.0.0.1:${own.port}/echo`, get)).text();
  own.replaceIdentity(certificates.renewedServer);
  await (await watching(`https://127.0.0.1:${own.port}/echo`, get)).text();
  assert.deepEqual(subjects, ["CN=server", "CN=renewed"]);
  await own.close(0);
});

test("a client that never finishes its request or handshake is cut off, others are served", async () => {
  const patient = await serveHttps((request, bindings) => app.fetch(request, bindings), {
    host: "127.0.0.1",
    port: 0,
    ...server,
    requestTimeoutMs: 300,
  });
  try {
    const closed = (socket: Socket) =>
      new Promise<void>((resolve) => {
        socket.on("error", () => {});
        socket.on("close", () => resolve());
        socket.resume();
      });
    const mute = connectTcp(patient.port, "127.0.0.1");
    const half = connectTls({ port: patient.port, host: "127.0.0.1", rejectUnauthorized: false });
    half.on("secureConnect", () => half.write("POST /echo HTTP/1.1\r\nhost: a\r\ncontent-le"));
    const body = connectTls({ port: patient.port, host: "127.0.0.1", rejectUnauthorized: false });
    body.on("secureConnect", () => {
      body.write("POST /echo HTTP/1.1\r\nhost: a\r\ncontent-length: 9\r\n\r\nabc");
    });
    const ended = Promise.all([mute, half, body].map(closed));
    const response = await fetchWith({})(`https://127.0.0.1:${patient.port}/echo`, {
      method: "GET",
      headers: {},
    });
    assert.equal(response.status, 200);
    await response.body?.cancel();
    await ended;
  } finally {
    await patient.close(0);
  }
});
