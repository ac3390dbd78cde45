import { execFileSync } from "node:child_process";
import { mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { connect, createServer, type Server } from "node:net";
import { join } from "node:path";
import process from "node:process";
import { hostDataPlanePorts } from "#host-daemon/gateway/adapters/host-ports.ts";
import { DataPlane } from "#host-daemon/gateway/data-plane.ts";
import { dataPlanePaths } from "#host-daemon/gateway/haproxy-config.ts";
import { parseHaproxyBuild } from "#host-daemon/gateway/haproxy.ts";
import { againstPeer, type BenchResult, median } from "./result.ts";

const HAPROXY = "/usr/sbin/haproxy";
const [INGRESS, BARE, SMALL, BULK] = [25443, 25444, 25480, 25481] as const;
const BASE = "apps.localhost";
const INSTANCE = "1".repeat(40);
const CONNECTIONS = 3000;
const CONCURRENT = 64;
const BULK_BYTES = 512 * 1024 * 1024;
const ROUNDS = 5;

/**
 * CPU time of HAProxy for TLS passthrough: ours, with routes from the map, beside one whose only
 * backend is written in its configuration. CPU time, not rates: clients and instances share the cores
 * with HAProxy here, and at saturation the rates are in the inverse proportion.
 */
export async function run(): Promise<BenchResult[]> {
  let build;
  try {
    build = parseHaproxyBuild(execFileSync(HAPROXY, ["-vv"], { encoding: "utf8" }));
  } catch (error) {
    if (!(error instanceof Error && "code" in error && error.code === "ENOENT")) throw error;
    process.stderr.write("skipped: haproxy\n");
    return [];
  }
  const dir = mkdtempSync("/tmp/gw-bench-");
  const servers = await startInstances();
  const paths = dataPlanePaths(join(dir, "run"));
  mkdirSync(paths.certificates, { recursive: true, mode: 0o700 });
  const port = (host: string) => host.includes("-25481s") ? BULK : SMALL;
  const plane = new DataPlane(
    HAPROXY,
    {
      paths,
      listen: { address: "127.0.0.1", first: INGRESS, last: INGRESS },
      inboundProxyProtocol: false,
      tlsVersions: ["1.2", "1.3"],
      maxConnectionsPerApp: 2000,
      threads: 1,
      timeouts: { connectMs: 5000, handshakeMs: 5000, idleMs: 600_000 },
      account: undefined,
      slots: { plain: 64, proxied: 16, servers: 3 },
      prometheus: build.prometheus,
      redirect: undefined,
    },
    hostDataPlanePorts(paths, {
      decide: (host) => ({
        kind: "forward",
        mode: "passthrough",
        port: port(host),
        appId: "a".repeat(40),
        candidates: [{ instanceId: INSTANCE, address: "127.0.0.2" }],
        proxyProtocol: false,
      }),
      onRefused: (host, reason) => process.stderr.write(`refused ${host}: ${reason}\n`),
      log: (level, message, fields) => {
        if (level === "error") process.stderr.write(`${message} ${JSON.stringify(fields)}\n`);
      },
    }),
  );
  let barePid = 0;
  try {
    await plane.start([]);
    barePid = startBare(dir);
    const ours = { pid: plane.haproxy.pid!, port: INGRESS };
    const bare = { pid: barePid, port: BARE };
    const peer = `haproxy ${build.version}`;
    return [
      await compare(
        `gateway passthrough, HAProxy CPU for ${CONNECTIONS} connections`,
        ours,
        bare,
        peer,
        (target) => manyConnections(target, `${INSTANCE}-${SMALL}s.${BASE}`),
      ),
      await compare(
        `gateway passthrough, HAProxy CPU for ${BULK_BYTES >> 20} MiB`,
        ours,
        bare,
        peer,
        (target) => bulk(target, `${INSTANCE}-${BULK}s.${BASE}`),
      ),
    ];
  } finally {
    await plane.stop();
    if (barePid > 0) process.kill(barePid, "SIGTERM");
    for (const server of servers) server.close();
    rmSync(dir, { recursive: true, force: true });
  }
}

interface Target {
  readonly pid: number;
  readonly port: number;
}

/** Alternates between the two, so that what else the machine does falls on both. */
async function compare(
  name: string,
  ours: Target,
  bare: Target,
  peer: string,
  load: (port: number) => Promise<void>,
): Promise<BenchResult> {
  await load(ours.port);
  await load(bare.port);
  const samples: Record<"ours" | "bare", number[]> = { ours: [], bare: [] };
  for (let round = 0; round < ROUNDS; round++) {
    for (const [key, { pid, port }] of [["ours", ours], ["bare", bare]] as const) {
      const before = cpuMs(pid);
      await load(port);
      samples[key].push(cpuMs(pid) - before);
    }
  }
  return againstPeer(name, median(samples.ours), peer, median(samples.bare));
}

/** Time its threads have run, in ms (proc_pid_schedstat: first field, ns). */
function cpuMs(pid: number): number {
  const nanoseconds = readdirSync(`/proc/${pid}/task`).map((task) =>
    Number(readFileSync(`/proc/${pid}/task/${task}/schedstat`, "utf8").split(" ")[0])
  );
  return nanoseconds.reduce((sum, each) => sum + each, 0) / 1e6;
}

/** What an operator would write by hand for one app. */
function startBare(dir: string): number {
  const at = (file: string) => join(dir, file);
  writeFileSync(
    at("bare.cfg"),
    `global
  nbthread 1
defaults
  mode tcp
  option splice-auto
  timeout connect 5s
  timeout client 10m
  timeout server 10m
frontend ingress
  bind 127.0.0.1:${BARE} backlog 4096
  tcp-request inspect-delay 5s
  tcp-request content accept if { req.ssl_hello_type 1 }
  use_backend bulk if { req.ssl_sni -i ${INSTANCE}-${BULK}s.${BASE} }
  use_backend small if { req.ssl_sni -i ${INSTANCE}-${SMALL}s.${BASE} }
backend small
  server instance 127.0.0.2:${SMALL}
backend bulk
  server instance 127.0.0.2:${BULK}
`,
  );
  execFileSync(HAPROXY, ["-D", "-f", at("bare.cfg"), "-p", at("bare.pid")]);
  return Number(readFileSync(at("bare.pid"), "utf8"));
}

async function startInstances(): Promise<Server[]> {
  const chunk = new Uint8Array(256 * 1024);
  const small = createServer((socket) => {
    socket.on("error", () => socket.destroy());
    socket.once("data", () => socket.end("x"));
  });
  const large = createServer((socket) => {
    let left = BULK_BYTES;
    const pump = () => {
      while (left > 0) {
        left -= chunk.length;
        if (!socket.write(chunk)) return void socket.once("drain", pump);
      }
      socket.end();
    };
    socket.on("error", () => socket.destroy());
    socket.once("data", pump);
  });
  await Promise.all(
    [[small, SMALL] as const, [large, BULK] as const].map(([server, port]) =>
      new Promise<void>((resolve) => server.listen(port, "127.0.0.2", () => resolve()))
    ),
  );
  return [small, large];
}

async function manyConnections(port: number, host: string): Promise<void> {
  const hello = clientHello(host);
  let left = CONNECTIONS;
  await Promise.all(Array.from({ length: CONCURRENT }, async () => {
    while (left-- > 0) {
      if (await received(port, hello) !== 1) throw new Error(`Port ${port}: no answer`);
    }
  }));
}

async function bulk(port: number, host: string): Promise<void> {
  const bytes = await received(port, clientHello(host));
  if (bytes !== BULK_BYTES) throw new Error(`Port ${port}: ${bytes} bytes of ${BULK_BYTES}`);
}

/** Bytes the other side sends until it ends the connection. */
function received(port: number, hello: Uint8Array): Promise<number> {
  return new Promise((resolve, reject) => {
    let bytes = 0;
    const socket = connect(port, "127.0.0.1", () => socket.write(hello));
    socket.on("data", (chunk: Uint8Array) => bytes += chunk.length);
    socket.on("end", () => resolve(bytes));
    socket.on("error", reject);
  });
}

/** A TLS 1.2 ClientHello (RFC 5246) with nothing but a server name. */
function clientHello(host: string): Uint8Array {
  const name = new TextEncoder().encode(host);
  const u16 = (value: number) => [value >> 8, value & 0xff];
  const entry = [0, ...u16(name.length), ...name];
  const serverName = [0, 0, ...u16(entry.length + 2), ...u16(entry.length), ...entry];
  const body = [
    ...[3, 3],
    ...new Uint8Array(32),
    ...[0],
    ...[0, 2, 0xc0, 0x2b],
    ...[1, 0],
    ...u16(serverName.length),
    ...serverName,
  ];
  const handshake = [1, 0, ...u16(body.length), ...body];
  return Uint8Array.from([22, 3, 1, ...u16(handshake.length), ...handshake]);
}
