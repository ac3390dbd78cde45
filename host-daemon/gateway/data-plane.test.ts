import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { createServer as createHttpServer } from "node:http";
import { connect as connectHttp2, createServer as createHttp2Server } from "node:http2";
import { request as httpsRequest, type RequestOptions } from "node:https";
import {
  connect as connectTcp,
  createServer as createTcpServer,
  type Server,
  type Socket,
} from "node:net";
import { join } from "node:path";
import process from "node:process";
import { after, before, describe, test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import {
  connect as connectTls,
  type ConnectionOptions,
  createServer as createTlsServer,
  type TLSSocket,
} from "node:tls";
import type { PortPolicy } from "#functions/gateway/port-policy.ts";
import { decideRoute, type RouteInstance } from "#functions/gateway/route.ts";
import { hostDataPlanePorts } from "./adapters/host-ports.ts";
import { DataPlane } from "./data-plane.ts";
import { dataPlanePaths, type DataPlaneSettings } from "./haproxy-config.ts";
import { parseHaproxyBuild } from "./haproxy.ts";

const haproxy = findHaproxy();
const skip = haproxy === undefined ? "skipped: haproxy" : false;

const BASE = "apps.localhost";
const APP = "a".repeat(40);
const TWIN = "b".repeat(40);
const ONE = "1".repeat(40);
const TWO = "2".repeat(40);
const NOW = () => Math.floor(Date.now() / 1000);
const OPEN: PortPolicy = { ports: [], restrictMode: false };

const [INGRESS, PLAIN, SECURE, H2, REFUSED, PROXIED, HALF, REDIRECT] = [
  24443,
  24480,
  24481,
  24482,
  24483,
  24484,
  24485,
  24486,
] as const;

/** The rows of the test; cases change them and refresh. */
const instances: RouteInstance[] = [];

describe("data plane", { skip }, () => {
  const dir = mkdtempSync("/tmp/gw-data-plane-");
  const paths = dataPlanePaths(join(dir, "run"));
  const servers: Server[] = [];
  const refusals: [string, string][] = [];
  const logs: string[] = [];
  let plane: DataPlane;
  let chainPem = "";
  let keyPem = "";

  before(async () => {
    ({ chainPem, keyPem } = issueWildcard(dir, BASE));
    await startInstances(servers, dir);
    mkdirSync(paths.certificates, { recursive: true, mode: 0o700 });
    plane = newPlane();
    await plane.start([{ domain: BASE, chainPem, keyPem }]);
  });

  after(async () => {
    await plane?.stop();
    for (const server of servers) server.close();
    rmSync(dir, { recursive: true, force: true });
  });

  function newPlane(): DataPlane {
    return new DataPlane(
      haproxy!.binary,
      settings(paths),
      hostDataPlanePorts(paths, {
        decide: (host) =>
          decideRoute(host, {
            baseDomains: plane.certificates.domains.keys(),
            instance: (id) => instances.find((i) => i.instanceId === id),
            instancesOf: (id) => instances.filter((i) => i.appId === id),
          }, { now: NOW(), connectTopN: 3, handshakeStaleSeconds: 1800 }),
        onRefused: (host, reason) => refusals.push([host, reason]),
        log: (_level, message) => logs.push(message),
      }),
    );
  }

  function lastRefusal(host: string): string | undefined {
    return refusals.findLast(([name]) => name === host)?.[1];
  }

  test("terminates TLS and carries plain HTTP to the instance", async () => {
    const host = `${ONE}-${PLAIN}.${BASE}`;
    assert.match(await httpsGet(host, dir), /^from 127\.0\.0\.2 at \d+ host=/);
    assert.match(await httpsGet(host, dir), /^from 127\.0\.0\.2/); // now from HAProxy's map
    assert.ok((await plane.haproxy.runtime.query(`show map ${paths.routeMap}`)).includes(host));
  });

  test("a server name in capitals reaches the same instance", async () => {
    const host = `${ONE}-${PLAIN}.APPS.Localhost`;
    assert.match(await httpsGet(host, dir), /^from 127\.0\.0\.2/);
  });

  test("passes TLS through untouched: the instance's own certificate answers", async () => {
    const { body, subject } = await tlsExchange(`${ONE}-${SECURE}s.${BASE}`, { trust: false });
    assert.equal(subject, "instance");
    assert.equal(body, "own tls of 127.0.0.2");
  });

  test("terminates with ALPN h2 and hands cleartext HTTP/2 to the instance", async () => {
    const { alpn, body } = await http2Get(`${ONE}-${H2}g.${BASE}`, INGRESS, caPem(dir));
    assert.equal(alpn, "h2");
    assert.equal(body, "h2c from 127.0.0.2");
  });

  test("the plain form offers no ALPN", async () => {
    const socket = connectTls({
      host: "127.0.0.1",
      port: INGRESS,
      servername: `${ONE}-${PLAIN}.${BASE}`,
      ca: caPem(dir),
      ALPNProtocols: ["h2", "http/1.1"],
    });
    await new Promise<void>((resolve, reject) =>
      socket.on("secureConnect", resolve).on("error", reject)
    );
    assert.equal(socket.alpnProtocol, false);
    socket.destroy();
  });

  test("a PROXY header reaches ports whose policy asks for it, and only those", async () => {
    const { body } = await tlsExchange(`${ONE}-${PROXIED}.${BASE}`, { ca: caPem(dir) });
    // v2 signature, version 2 command PROXY, TCP over IPv4, 12 bytes of addresses.
    assert.match(body, /^0d0a0d0a000d0a515549540a2111000c7f000001/);
  });

  test("refusals close the connection, each with its reason", async () => {
    const cases: [string, string][] = [
      [`${"f".repeat(40)}.${BASE}`, "unknown-app"],
      [`${ONE}-${REFUSED}s.${BASE}`, "port-denied"],
      [`${ONE}-1-2.${BASE}`, "malformed-label"],
      [`a.b.${BASE}`, "nested-label"],
      ["elsewhere.example", "unknown-domain"],
    ];
    for (const [host, reason] of cases) {
      await assert.rejects(tlsExchange(host, { trust: false }));
      assert.equal(lastRefusal(host), reason);
    }
  });

  test("bytes that are no ClientHello, and one without a server name, get nothing", async () => {
    assert.equal(await rawExchange("GET / HTTP/1.0\r\n\r\n"), "");
    const socket = connectTls({ host: "127.0.0.1", port: INGRESS, rejectUnauthorized: false });
    await assert.rejects(
      new Promise<void>((resolve, reject) =>
        socket.on("secureConnect", resolve).on("error", reject)
      ),
    );
  });

  test("an app with two instances is served while one of them refuses connections", async () => {
    for (let i = 0; i < 6; i++) {
      assert.match(await httpsGet(`${APP}-${HALF}.${BASE}`, dir), /^from 127\.0\.0\.3/);
    }
    const seen = new Set<string>();
    for (let i = 0; i < 12; i++) {
      seen.add((await httpsGet(`${APP}-${PLAIN}.${BASE}`, dir)).split(" ")[1]!);
    }
    assert.deepEqual([...seen].sort(), ["127.0.0.2", "127.0.0.3"]);
  });

  test("rows that change move cached routes without a reload", async () => {
    const host = `${TWIN}-${PLAIN}.${BASE}`;
    const pid = plane.haproxy.pid;
    instances.push(instanceRow("3".repeat(40), TWIN, "127.0.0.2"));
    await plane.routes.refresh();
    assert.match(await httpsGet(host, dir), /^from 127\.0\.0\.2/);
    instances.splice(-1, 1, instanceRow("3".repeat(40), TWIN, "127.0.0.3"));
    await plane.routes.refresh();
    assert.match(await httpsGet(host, dir), /^from 127\.0\.0\.3/);
    instances.pop();
    await plane.routes.refresh();
    await assert.rejects(httpsGet(host, dir));
    assert.equal(lastRefusal(host), "unknown-app");
    assert.equal(plane.haproxy.pid, pid);
  });

  test("plain HTTP is sent to the same name over HTTPS", async () => {
    const response = await fetch(`http://127.0.0.1:${REDIRECT}/a?b=c`, { redirect: "manual" });
    assert.equal(response.status, 308);
    assert.equal(response.headers.get("location"), `https://127.0.0.1:${INGRESS}/a?b=c`);
  });

  test("live connections are counted by instance, also behind a shared backend", async () => {
    const open = [`${TWO}-${PLAIN}`, `${TWO}-${PLAIN + 10}s`, `${APP}-${HALF}`].map((label) =>
      connectTls({
        host: "127.0.0.1",
        port: INGRESS,
        servername: `${label}.${BASE}`,
        rejectUnauthorized: false,
      }).on("error", () => {})
    );
    let counts: ReadonlyMap<string, number> = new Map();
    for (let i = 0; i < 100 && counts.get(TWO) !== 3; i++) {
      await sleep(20);
      counts = await plane.connections(instances);
    }
    assert.deepEqual([...counts], [[TWO, 3]]);
    for (const socket of open) socket.destroy();
  });

  test("half-close: the answer arrives after the client has finished sending", async () => {
    const { body } = await tlsExchange(`${TWO}-${PLAIN + 10}s.${BASE}`, {
      trust: false,
      end: true,
    });
    assert.equal(body.length, 4096);
  });

  test("a new certificate is served from the next handshake on, without a reload", async () => {
    const pid = plane.haproxy.pid;
    const other = issueWildcard(dir, "other.localhost");
    await plane.installCertificate("other.localhost", other.chainPem, other.keyPem);
    assert.match(await httpsGet(`${ONE}-${PLAIN}.other.localhost`, dir), /^from 127\.0\.0\.2/);
    const renewed = issueWildcard(dir, BASE);
    await plane.installCertificate(BASE, renewed.chainPem, renewed.keyPem);
    const { fingerprint } = await tlsExchange(`${ONE}-${PLAIN}.${BASE}`, { ca: caPem(dir) });
    assert.equal(fingerprint, plane.certificates.domains.get(BASE)!.fingerprint);
    assert.equal(plane.haproxy.pid, pid);
  });

  test("a certificate for other names or with another key changes nothing", async () => {
    const other = issueWildcard(dir, "third.localhost");
    await assert.rejects(
      plane.installCertificate(BASE, other.chainPem, other.keyPem),
      /other names/,
    );
    await assert.rejects(plane.installCertificate(BASE, chainPem, other.keyPem), /private key/);
    assert.match(await httpsGet(`${ONE}-${PLAIN}.${BASE}`, dir), /^from/);
  });

  test("HAProxy killed: a new one serves within two seconds", async () => {
    const pid = plane.haproxy.pid!;
    process.kill(pid, "SIGKILL");
    const deadline = Date.now() + 2000;
    while (plane.haproxy.pid === pid || plane.haproxy.pid === undefined) {
      assert.ok(Date.now() < deadline, "HAProxy was not started again");
      await sleep(20);
    }
    assert.match(await httpsGet(`${ONE}-${PLAIN}.${BASE}`, dir), /^from 127\.0\.0\.2/);
    assert.match(await httpsGet(`${APP}-${HALF}.${BASE}`, dir), /^from 127\.0\.0\.3/);
  });

  test("a control plane that ends leaves HAProxy serving, and the next one adopts it", async () => {
    const pid = plane.haproxy.pid;
    const host = `${ONE}-${PLAIN}.${BASE}`;
    await plane.detach();
    assert.match(await httpsGet(host, dir), /^from 127\.0\.0\.2/);
    plane = newPlane();
    await plane.start([{ domain: BASE, chainPem, keyPem }]);
    assert.equal(plane.haproxy.pid, pid);
    assert.match(await httpsGet(host, dir), /^from 127\.0\.0\.2/);
  });

  test("other settings replace HAProxy without losing the listener", async () => {
    const pid = plane.haproxy.pid;
    await plane.detach();
    const slots = { ...settings(paths).slots, plain: 9 };
    const changed = new DataPlane(
      haproxy!.binary,
      { ...settings(paths), slots },
      hostDataPlanePorts(paths, {
        decide: () => ({ kind: "refused", reason: "unknown-app" }),
        onRefused: () => {},
        log: (_level, message) => logs.push(message),
      }),
    );
    await changed.start([{ domain: BASE, chainPem, keyPem }]);
    assert.notEqual(changed.haproxy.pid, pid);
    await changed.detach();
    plane = newPlane();
    await plane.start([{ domain: BASE, chainPem, keyPem }]);
    assert.match(await httpsGet(`${ONE}-${PLAIN}.${BASE}`, dir), /^from 127\.0\.0\.2/);
  });

  test("stop leaves no process and no socket", async () => {
    await plane.stop();
    const left = execFileSync("sh", ["-c", `pgrep -af 'haproxy.*${paths.config}' || true`], {
      encoding: "utf8",
    });
    assert.equal(left.replace(/.*pgrep.*\n/g, ""), "");
    await assert.rejects(rawExchange("x"));
  });
});

describe("data plane behind a balancer, with a limit for each app", { skip }, () => {
  const dir = mkdtempSync("/tmp/gw-data-plane-");
  const paths = dataPlanePaths(join(dir, "run"));
  const port = INGRESS + 20;
  const instance = createTcpServer((socket) => {
    socket.on("error", () => socket.destroy());
    socket.once("data", (bytes: Uint8Array) => socket.write(bytes));
  });
  const plane = new DataPlane(haproxy?.binary ?? "", {
    ...settings(paths),
    listen: { address: "127.0.0.1", first: port, last: port + 1 },
    inboundProxyProtocol: true,
    maxConnectionsPerApp: 2,
    timeouts: { connectMs: 1000, handshakeMs: 700, idleMs: 1500 },
    redirect: undefined,
  }, {
    ...hostDataPlanePorts(paths, {
      decide: () => ({
        kind: "forward",
        mode: "passthrough",
        port: port + 2,
        appId: APP,
        candidates: [{ instanceId: ONE, address: "127.0.0.2" }],
        proxyProtocol: true,
      }),
      onRefused: () => {},
      log: () => {},
    }),
  });

  before(async () => {
    mkdirSync(paths.certificates, { recursive: true, mode: 0o700 });
    await new Promise<void>((resolve) => instance.listen(port + 2, "127.0.0.2", () => resolve()));
    await plane.start([]);
  });
  after(async () => {
    await plane.stop();
    instance.close();
    rmSync(dir, { recursive: true, force: true });
  });

  /** Sends bytes; answers what came back and for how long the connection lasted, ms. */
  function send(bytes: Uint8Array | string, to = port, hold = false) {
    return new Promise<{ hex: string; ms: number; socket: Socket }>((resolve, reject) => {
      const start = performance.now();
      let hex = "";
      const socket = connectTcp(to, "127.0.0.1", () => socket.write(bytes));
      const answer = () => resolve({ hex, ms: performance.now() - start, socket });
      socket.on("data", (chunk: Uint8Array) => {
        hex += [...chunk].map((byte) => byte.toString(16).padStart(2, "0")).join("");
        if (hold) answer();
      });
      socket.on("close", answer);
      socket.on(
        "error",
        (error: Error & { code?: string }) =>
          error.code === "ECONNRESET" ? answer() : reject(error),
      );
    });
  }

  const V1 = new TextEncoder().encode("PROXY TCP4 192.0.2.7 198.51.100.9 4711 443\r\n");
  const hello = clientHello(`${ONE}-443s.${BASE}`);
  const asClient = Uint8Array.from([...V1, ...hello]);

  test("the address of the PROXY header reaches the instance, on every port of the range", async () => {
    for (const to of [port, port + 1]) {
      const { hex, socket } = await send(asClient, to, true);
      // v2 signature, PROXY over TCP4, 12 bytes: from 192.0.2.7 port 4711.
      assert.match(hex, /^0d0a0d0a000d0a515549540a2111000cc0000207.{8}1267/);
      socket.destroy();
    }
  });

  test("without a PROXY header nothing is answered", async () => {
    assert.equal((await send(hello)).hex, "");
  });

  test("a third connection of the app is refused until one of the two ends", async () => {
    await sleep(100);
    const first = await send(asClient, port, true);
    const second = await send(asClient, port, true);
    assert.equal((await send(asClient)).hex, "");
    first.socket.destroy();
    await sleep(100);
    const fourth = await send(asClient, port, true);
    assert.notEqual(fourth.hex, "");
    second.socket.destroy();
    fourth.socket.destroy();
  });

  test("half a ClientHello is waited for no longer than the handshake may take", async () => {
    const { hex, ms } = await send(asClient.subarray(0, V1.length + 30));
    assert.equal(hex, "");
    assert.ok(ms > 500 && ms < 2500, `${ms} ms`);
  });

  test("a silent connection ends after the idle time", async () => {
    const { ms } = await send(asClient);
    assert.ok(ms > 1200 && ms < 4000, `${ms} ms`);
  });

  test("a name split over many packets is read whole", async () => {
    const socket = connectTcp(port, "127.0.0.1");
    const got = new Promise<number>((resolve) => {
      socket.on("data", (chunk: Uint8Array) => resolve(chunk.length));
      socket.on("close", () => resolve(0));
    });
    socket.setNoDelay(true);
    socket.write(V1); // a PROXY header comes in one segment
    for (let at = 0; at < hello.length; at += 40) {
      await sleep(15);
      socket.write(hello.subarray(at, at + 40));
    }
    assert.notEqual(await got, 0);
    socket.destroy();
  });
});

/** A TLS 1.2 ClientHello (RFC 5246) with nothing but a server name (RFC 6066). */
function clientHello(host: string): Uint8Array {
  const name = new TextEncoder().encode(host);
  const u16 = (value: number) => [value >> 8, value & 0xff];
  const entry = [0, ...u16(name.length), ...name];
  const serverName = [0, 0, ...u16(entry.length + 2), ...u16(entry.length), ...entry];
  const suites = [0, 2, 0xc0, 0x2b];
  const body = [3, 3, ...new Uint8Array(32), 0, ...suites, 1, 0, ...u16(serverName.length)];
  const handshake = [1, 0, ...u16(body.length + serverName.length), ...body, ...serverName];
  return Uint8Array.from([22, 3, 1, ...u16(handshake.length), ...handshake]);
}

function settings(paths: DataPlaneSettings["paths"]): DataPlaneSettings {
  return {
    paths,
    listen: { address: "127.0.0.1", first: INGRESS, last: INGRESS },
    inboundProxyProtocol: false,
    tlsVersions: ["1.2", "1.3"],
    maxConnectionsPerApp: 2000,
    threads: undefined,
    timeouts: { connectMs: 3000, handshakeMs: 2000, idleMs: 60_000 },
    account: undefined,
    slots: { plain: 8, proxied: 2, servers: 3 },
    prometheus: haproxy!.prometheus,
    redirect: { port: REDIRECT, httpsPort: INGRESS },
  };
}

function instanceRow(
  instanceId: string,
  appId: string,
  address: string,
  reportedPolicy: PortPolicy = OPEN,
): RouteInstance {
  return {
    instanceId,
    appId,
    address,
    adminPolicy: undefined,
    reportedPolicy,
    lastHandshake: NOW(),
  };
}

/** Two instances; 127.0.0.2 lists its ports, 127.0.0.3 is open. */
async function startInstances(servers: Server[], dir: string): Promise<void> {
  const listed = [PLAIN, SECURE, H2, PROXIED, HALF].map((port) => ({
    port,
    proxyProtocol: port === PROXIED,
  }));
  instances.push(
    instanceRow(ONE, APP, "127.0.0.2", { ports: listed, restrictMode: true }),
    instanceRow(TWO, APP, "127.0.0.3"),
  );
  const listen = (server: Server, port: number, address: string) => {
    servers.push(server);
    return new Promise<void>((resolve) => server.listen(port, address, () => resolve()));
  };
  const http = (address: string) =>
    createHttpServer((req, res) => {
      res.end(`from ${address} at ${req.socket.localPort} host=${req.headers.host}`);
    });
  const own = selfSigned(dir, "instance");
  await listen(http("127.0.0.2"), PLAIN, "127.0.0.2");
  await listen(http("127.0.0.3"), PLAIN, "127.0.0.3");
  await listen(http("127.0.0.3"), HALF, "127.0.0.3");
  const secure = createTlsServer(own, (socket) => socket.end("own tls of 127.0.0.2"));
  await listen(secure, SECURE, "127.0.0.2");
  const h2 = createHttp2Server((_req, res) => res.end("h2c from 127.0.0.2"));
  await listen(h2 as unknown as Server, H2, "127.0.0.2");
  const proxied = createTcpServer((socket) =>
    socket.once("data", (bytes: Uint8Array) => {
      socket.end([...bytes.subarray(0, 28)].map((b) => b.toString(16).padStart(2, "0")).join(""));
    })
  );
  await listen(proxied, PROXIED, "127.0.0.2");
  const late = createTlsServer({ ...own, allowHalfOpen: true }, (socket) => {
    socket.resume();
    socket.on("end", () => setTimeout(() => socket.end("x".repeat(4096)), 100));
  });
  await listen(late, PLAIN + 10, "127.0.0.3");
}

function findHaproxy(): { binary: string; prometheus: boolean } | undefined {
  const binary = process.env["DSTACK_HAPROXY"] ?? "/usr/sbin/haproxy";
  if (!existsSync(binary)) return undefined;
  const build = parseHaproxyBuild(execFileSync(binary, ["-vv"], { encoding: "utf8" }));
  return { binary, prometheus: build.prometheus };
}

function openssl(...args: string[]): void {
  execFileSync("openssl", args, { stdio: "pipe" });
}

function caPem(dir: string): string {
  return readFileSync(join(dir, "ca.pem"), "utf8");
}

const EC = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"];

/** A wildcard certificate signed by a CA made on first use. */
function issueWildcard(dir: string, domain: string): { chainPem: string; keyPem: string } {
  const at = (name: string) => join(dir, name);
  try {
    caPem(dir);
  } catch {
    openssl(
      "req",
      "-x509",
      ...EC,
      "-keyout",
      at("ca.key"),
      "-out",
      at("ca.pem"),
      "-days",
      "2",
      "-subj",
      "/CN=test CA",
    );
  }
  writeFileSync(at("ext"), `subjectAltName=DNS:*.${domain}\n`);
  openssl("req", ...EC, "-keyout", at("w.key"), "-out", at("w.csr"), "-subj", "/");
  openssl(
    "x509",
    "-req",
    "-in",
    at("w.csr"),
    "-CA",
    at("ca.pem"),
    "-CAkey",
    at("ca.key"),
    "-CAcreateserial",
    "-days",
    "2",
    "-extfile",
    at("ext"),
    "-out",
    at("w.pem"),
  );
  return {
    chainPem: readFileSync(at("w.pem"), "utf8"),
    keyPem: readFileSync(at("w.key"), "utf8"),
  };
}

function selfSigned(dir: string, name: string): { cert: string; key: string } {
  const at = (file: string) => join(dir, file);
  openssl(
    "req",
    "-x509",
    ...EC,
    "-keyout",
    at("s.key"),
    "-out",
    at("s.pem"),
    "-days",
    "2",
    "-subj",
    `/CN=${name}`,
  );
  return { cert: readFileSync(at("s.pem"), "utf8"), key: readFileSync(at("s.key"), "utf8") };
}

interface TlsOutcome {
  body: string;
  subject: string;
  fingerprint: string;
}

/** Connects through the ingress, sends a line, reads to the end. */
function tlsExchange(
  servername: string,
  options: { ca?: string; trust?: boolean; end?: boolean },
): Promise<TlsOutcome> {
  return new Promise((resolve, reject) => {
    let body = "";
    let subject = "";
    let fingerprint = "";
    const target: ConnectionOptions & { allowHalfOpen: boolean } = {
      host: "127.0.0.1",
      port: INGRESS,
      servername,
      allowHalfOpen: true,
      rejectUnauthorized: options.trust ?? true,
      ...(options.ca === undefined ? {} : { ca: options.ca }),
    };
    const socket = connectTls(target);
    socket.setTimeout(8000, () => socket.destroy(new Error(`${servername}: nothing in 8 s`)));
    socket.on("secureConnect", () => {
      const peer = socket.getPeerCertificate();
      subject = `${peer.subject?.CN ?? ""}`;
      fingerprint = peer.fingerprint256.replaceAll(":", "").toLowerCase();
      if (options.end) socket.end("hello\n");
      else socket.write("hello\n");
    });
    socket.on("data", (chunk: Uint8Array) => body += new TextDecoder().decode(chunk));
    socket.on("end", () => {
      socket.end();
      if (fingerprint === "") reject(new Error(`${servername}: closed before any TLS`));
      else resolve({ body, subject, fingerprint });
    });
    socket.on("error", reject);
  });
}

function httpsGet(host: string, dir: string): Promise<string> {
  return new Promise((resolve, reject) => {
    const options: RequestOptions = {
      host: "127.0.0.1",
      port: INGRESS,
      servername: host,
      ca: caPem(dir),
      headers: { host },
      agent: false,
      checkServerIdentity: () => undefined,
      timeout: 8000,
    };
    const request = httpsRequest(options, (response) => {
      let body = "";
      response.setEncoding("utf8");
      response.on("data", (chunk: string) => body += chunk);
      response.on("end", () => resolve(body));
    });
    request.on("timeout", () => request.destroy(new Error(`${host}: nothing in 8 s`)));
    request.on("error", reject);
    request.end();
  });
}

/** One HTTP/2 request over TLS to 127.0.0.1; answers what was negotiated and the body. */
function http2Get(
  host: string,
  port: number,
  ca: string,
): Promise<{ alpn: string; body: string }> {
  return new Promise((resolve, reject) => {
    const session = connectHttp2(`https://${host}:${port}`, {
      ca,
      host: "127.0.0.1",
      servername: host,
    });
    session.on("error", reject);
    const stream = session.request({ ":path": "/" });
    let body = "";
    stream.setEncoding("utf8");
    stream.on("data", (chunk: string) => body += chunk);
    stream.on("error", reject);
    stream.on("end", () => {
      const alpn = `${(session.socket as TLSSocket).alpnProtocol}`;
      session.close();
      resolve({ alpn, body });
    });
    stream.end();
  });
}

function rawExchange(text: string): Promise<string> {
  return new Promise((resolve, reject) => {
    let body = "";
    const socket = connectTcp(INGRESS, "127.0.0.1", () => socket.write(text));
    socket.setEncoding("utf8");
    socket.on("data", (chunk: string) => body += chunk);
    socket.on("close", () => resolve(body));
    socket.on(
      "error",
      (error: Error & { code?: string }) =>
        error.code === "ECONNRESET" ? resolve(body) : reject(error),
    );
  });
}
