/**
 * Runs in a network namespace of its own: the whole gateway program, two CVMs in namespaces of
 * theirs that register over mutual TLS and dial the tunnel, clients at the ingress, and a few
 * killings. Prints what was seen as JSON.
 */
import { type ChildProcess, execFileSync, spawn } from "node:child_process";
import { mkdirSync, readdirSync, readFileSync, readlinkSync, writeFileSync } from "node:fs";
import { createServer } from "node:http";
import { request as httpsRequest } from "node:https";
import { join } from "node:path";
import process from "node:process";
import { setTimeout as sleep } from "node:timers/promises";
import { connect as connectTls, createServer as createTlsServer } from "node:tls";
import { makeTlsFetch } from "#adapters/tls-fetch.ts";
import { errorChain } from "#core/errors/app-error.ts";
import { encodeP256Pkcs8, p256Spki, randomP256Scalar } from "#core/crypto/p256.ts";
import { encodeAppInfo } from "#core/ra-tls/app-info.ts";
import {
  buildCertificate,
  encodeName,
  type Issuer,
  selfIssuer,
} from "#core/ra-tls/certificate-builder.ts";
import { certificatePem, privateKeyPem } from "#core/ra-tls/certificate.ts";
import { Gateway } from "#core/rpc/gen/gateway_pb.ts";
import { prpcClient } from "#core/rpc/client.ts";
import { generateWireguardKeyPair } from "./wireguard.ts";

const [dir = ".", role, name = ""] = process.argv.slice(2);
const RPC = 9000;
const INGRESS = 8443;
const BASE = "apps.localhost";
const APP = "ab".repeat(20);
const HTTP_PORT = 8080;
const TLS_PORT = 8443;
const NOT_AFTER = new Date(Date.now() + 86_400_000);
const RUNTIME = "Deno" in globalThis
  ? [process.execPath, "run", "-A", "--no-check"]
  : [process.execPath];

if (role === "cvm") serveAsCvm();
else await main();

function serveAsCvm(): void {
  createServer((_req, res) => res.end(`http of ${name}`)).listen(HTTP_PORT, "0.0.0.0");
  const own = {
    cert: readFileSync(join(dir, "own.pem"), "utf8"),
    key: readFileSync(join(dir, "own.key"), "utf8"),
  };
  createTlsServer(own, (socket) => socket.end(`tls of ${name}`)).listen(TLS_PORT, "0.0.0.0");
}

interface Signed {
  readonly certPem: string;
  readonly keyPem: string;
}

async function main(): Promise<void> {
  run("ip", "link", "set", "lo", "up");
  // wireguard-go's command sockets go by interface name, whatever the network namespace.
  run("mkdir", "-p", "/run/wireguard");
  run("mount", "-t", "tmpfs", "none", "/run/wireguard");
  const kms = authority("KMS root");
  const files = writeFiles(kms);
  const report: Record<string, unknown> = {};
  const children: ChildProcess[] = [];
  const cvms: Cvm[] = [];
  let gateway = await startGateway(files.config);
  try {
    const client = (identity: Signed | undefined) =>
      prpcClient(Gateway, {
        baseUrl: `https://127.0.0.1:${RPC}/prpc`,
        fetch: makeTlsFetch({
          caPem: kms.certPem,
          verify: "ca",
          checkHostname: true,
          ...identity,
        }),
      });
    const clientPublicKey = generateWireguardKeyPair().publicKey;
    report.withoutCertificate = await refusal(client(undefined).registerCvm({ clientPublicKey }));
    const stranger = appCertificate(authority("another CA"), "cc");
    report.otherCa = await refusal(client(stranger).registerCvm({ clientPublicKey }));
    report.info = (await client(undefined).info({})).baseDomain;

    for (const [index, instance] of ["01", "02"].entries()) {
      const keys = generateWireguardKeyPair();
      const reply = await client(appCertificate(kms, instance)).registerCvm({
        clientPublicKey: keys.publicKey,
        portPolicy: { ports: [], restrictMode: false },
      });
      const cvm = await startCvm(`cvm${index}`, children);
      cvms.push(cvm);
      dialTunnel(cvm, keys.privateKey, reply.wg!);
    }
    const app = `${APP}-${HTTP_PORT}.${BASE}`;
    const first = `${"01".repeat(20)}-${HTTP_PORT}.${BASE}`;
    report.secondsToAppRoute = await until(() => httpsGet(app));
    report.byInstance = await httpsGet(first);
    // Both serve once the second one's handshake was seen.
    const seenByApp = new Set<string>();
    await until(async () => {
      seenByApp.add(await httpsGet(app));
      if (seenByApp.size < 2) throw new Error(`Only ${[...seenByApp]} serves ${app}`);
    });
    report.byApp = [...seenByApp].sort();
    report.passthrough = await tlsRead(`${"02".repeat(20)}-${TLS_PORT}s.${BASE}`);
    report.unknown = await refusal(httpsGet(`${"ef".repeat(20)}.${BASE}`));
    report.gatewayHealth = (await httpsGet(`gateway.${BASE}`, "/health")) === "";

    const haproxy = haproxyPid();
    gateway.kill("SIGKILL");
    await gateway.exited;
    report.withoutControlPlane = await httpsGet(first);
    gateway = await startGateway(files.config);
    report.adopted = haproxyPid() === haproxy;
    report.afterAdoption = await httpsGet(app);

    process.kill(haproxy, "SIGKILL");
    report.secondsToRecover = await until(() => httpsGet(first));

    // One CVM goes silent: connections by app id are served by the other.
    cvms[0]!.within("ip", "link", "delete", cvms[0]!.interface);
    cvms[0]!.process.kill("SIGKILL");
    report.byAppWithOneDead = [
      ...new Set(await Promise.all(Array.from({ length: 4 }, () => httpsGet(app)))),
    ];

    run("ip", "link", "delete", "gwt");
    report.secondsToNewTunnel = await until(async () => {
      const peers = run("wg", "show", "gwt", "peers").trim().split("\n");
      return await (peers.length === 2 ? Promise.resolve() : Promise.reject(new Error("no peers")));
    });

    gateway.kill("SIGTERM");
    report.exitCode = await gateway.exited;
    report.leftSockets = readdirSync(join(dir, "run")).filter((file) => /sock|pid/.test(file));
    report.leftInterfaces = JSON.parse(run("ip", "-json", "link", "show"))
      .map((link: { ifname: string }) => link.ifname);
    report.leftProcesses = processesNaming(join(dir, "run"));
  } catch (error) {
    report.failure = error instanceof Error ? `${errorChain(error)}\n${error.stack}` : `${error}`;
    report.log = readFileSync(join(dir, "gateway.log"), "utf8").split("\n").slice(-40);
  } finally {
    gateway.kill("SIGTERM");
    await gateway.exited;
    // Whatever failed above, nothing stays; and where nothing is left it does no harm.
    run(...RUNTIME, new URL("./main.ts", import.meta.url).pathname, "-c", files.config, "--down");
    for (const cvm of cvms) {
      try {
        cvm.within("ip", "link", "delete", cvm.interface);
      } catch {
        // Gone already: the case that ends it is above.
      }
    }
    for (const child of children) child.kill("SIGKILL");
  }
  console.log(JSON.stringify(report));
}

interface Cvm {
  readonly interface: string;
  readonly process: ChildProcess;
  readonly within: (...argv: string[]) => string;
}

async function startCvm(cvmName: string, children: ChildProcess[]): Promise<Cvm> {
  const script = new URL(import.meta.url).pathname;
  const child = spawn("unshare", ["--net", ...RUNTIME, script, dir, "cvm", cvmName], {
    stdio: "ignore",
  });
  children.push(child);
  while (namespaceOf(child.pid!) === namespaceOf(process.pid)) await sleep(10);
  const within = (...argv: string[]) => run("nsenter", `--net=/proc/${child.pid}/ns/net`, ...argv);
  return { interface: `t-${cvmName}`, process: child, within };
}

/** The guest's part: an interface of the reply's address, made here and moved into the CVM. */
function dialTunnel(
  cvm: Cvm,
  privateKey: string,
  wg: { clientIp: string; servers: readonly { pk: string; ip: string; endpoint: string }[] },
): void {
  run("wireguard-go", cvm.interface);
  run("wg", "show", cvm.interface); // answers once the process in the background runs
  run("ip", "link", "set", cvm.interface, "netns", `${cvm.process.pid}`);
  cvm.within("ip", "address", "add", `${wg.clientIp}/32`, "dev", cvm.interface);
  cvm.within("ip", "link", "set", cvm.interface, "up");
  cvm.within("ip", "route", "add", "10.99.0.0/24", "dev", cvm.interface);
  const [server] = wg.servers;
  const path = join(dir, `${cvm.interface}.conf`);
  writeFileSync(
    path,
    `[Interface]\nPrivateKey = ${privateKey}\n[Peer]\nPublicKey = ${server!.pk}\n` +
      `AllowedIPs = ${server!.ip.split("/")[0]}/32\nEndpoint = ${server!.endpoint}\n` +
      "PersistentKeepalive = 1\n",
    { mode: 0o600 },
  );
  cvm.within("wg", "syncconf", cvm.interface, path);
}

async function startGateway(config: string): Promise<RunningProgram> {
  const script = new URL("./main.ts", import.meta.url).pathname;
  const child = spawn(RUNTIME[0]!, [...RUNTIME.slice(1), script, "--config", config], {
    stdio: ["ignore", "pipe", "pipe"],
  });
  const exited = new Promise<number | null>((resolve) => child.once("exit", resolve));
  let text = "";
  const note = (chunk: Uint8Array) => {
    text += new TextDecoder().decode(chunk);
    writeFileSync(join(dir, "gateway.log"), text);
  };
  child.stdout!.on("data", note);
  child.stderr!.on("data", note);
  for (let i = 0; !text.includes('"gateway serves"'); i++) {
    if (i > 600 || child.exitCode !== null) throw new Error(`Gateway does not start: ${text}`);
    await sleep(50);
  }
  const kill = (signal: NodeJS.Signals) => {
    // After child.kill() Deno reports the signal sent, whatever the exit code was.
    if (child.exitCode === null && child.signalCode === null) process.kill(child.pid!, signal);
  };
  return { kill, exited };
}

interface RunningProgram {
  readonly kill: (signal: NodeJS.Signals) => void;
  readonly exited: Promise<number | null>;
}

function writeFiles(kms: Authority): { config: string } {
  const at = (file: string) => join(dir, file);
  const put = (file: string, { certPem, keyPem }: Signed) => {
    writeFileSync(at(`${file}.pem`), certPem);
    writeFileSync(at(`${file}.key`), keyPem, { mode: 0o600 });
  };
  const web = authority("web CA");
  writeFileSync(at("web-ca.pem"), web.certPem);
  writeFileSync(at("kms-ca.pem"), kms.certPem);
  put("rpc", sign(kms, "gateway", { serverAuth: true, altNames: ["127.0.0.1"] }));
  put("wild", sign(web, "wildcard", { serverAuth: true, altNames: [`*.${BASE}`] }));
  put("own", sign(web, "own certificate", { serverAuth: true, altNames: ["cvm"] }));
  mkdirSync(at("data"), { mode: 0o700 });
  writeFileSync(
    at("gateway.toml"),
    `
address = "127.0.0.1:${RPC}"
[tls]
key = "${at("rpc.key")}"
certs = "${at("rpc.pem")}"
mutual.ca_certs = "${at("kms-ca.pem")}"
[core.wg]
private_key_file = "${at("wg.key")}"
listen_port = 51820
interface = "gwt"
config_path = "${at("wg.conf")}"
ip = "10.99.0.1/24"
reserved_net = ["10.99.0.1/32"]
client_ip_range = "10.99.0.0/25"
endpoint = "127.0.0.1:51820"
[core.proxy]
listen_addr = "127.0.0.1"
listen_port = ${INGRESS}
external_port = ${INGRESS}
base_domain = "${BASE}"
cert_chain = "${at("wild.pem")}"
cert_key = "${at("wild.key")}"
run_dir = "${at("run")}"
timeouts.connect = "3s"
[core.sync]
data_dir = "${at("data")}"
my_url = "https://127.0.0.1:${RPC}"
`,
  );
  return { config: at("gateway.toml") };
}

interface Authority extends Signed {
  readonly issuer: Issuer;
}

function authority(commonName: string): Authority {
  const key = randomP256Scalar();
  const issuer = selfIssuer({ commonName }, key);
  const der = buildCertificate({
    subject: { commonName },
    publicKey: p256Spki(key),
    issuer,
    notAfter: NOT_AFTER,
    ca: { pathLength: 1 },
  });
  const keyPem = privateKeyPem(encodeP256Pkcs8(key));
  return {
    certPem: certificatePem(der),
    keyPem,
    issuer: { name: encodeName({ commonName }), key },
  };
}

function sign(
  by: Authority,
  commonName: string,
  spec: Partial<Parameters<typeof buildCertificate>[0]>,
): Signed {
  const key = randomP256Scalar();
  const der = buildCertificate({
    subject: { commonName },
    publicKey: p256Spki(key),
    issuer: by.issuer,
    notAfter: NOT_AFTER,
    ...spec,
  });
  return { certPem: certificatePem(der), keyPem: privateKeyPem(encodeP256Pkcs8(key)) };
}

/** What the KMS signs for a CVM of APP. */
function appCertificate(by: Authority, instance: string): Signed {
  const bytes = (hex: string) => Uint8Array.from(hex.match(/../g)!, (pair) => parseInt(pair, 16));
  const empty = new Uint8Array(32);
  return sign(by, "dstack-guest-agent", {
    clientAuth: true,
    appId: bytes(APP),
    appInfo: encodeAppInfo({
      appId: bytes(APP),
      composeHash: empty,
      instanceId: bytes(instance.repeat(20)),
      deviceId: empty,
      mrSystem: empty,
      mrAggregated: empty,
      osImageHash: empty,
      keyProviderInfo: new Uint8Array(),
    }),
  });
}

function run(...argv: string[]): string {
  return execFileSync(argv[0]!, argv.slice(1), { encoding: "utf8", stdio: "pipe" });
}

function namespaceOf(pid: number): string {
  return readlinkSync(`/proc/${pid}/ns/net`);
}

function haproxyPid(): number {
  return JSON.parse(readFileSync(join(dir, "run/haproxy.json"), "utf8")).pid;
}

function processesNaming(path: string): string[] {
  const pids = readdirSync("/proc").filter((entry) => /^\d+$/.test(entry));
  return pids.flatMap((pid) => {
    try {
      const argv = readFileSync(`/proc/${pid}/cmdline`, "utf8");
      return argv.includes(path) && Number(pid) !== process.pid ? [argv] : [];
    } catch {
      return []; // ended while we looked
    }
  });
}

async function refusal(work: Promise<unknown>): Promise<string> {
  try {
    await work;
    return "accepted";
  } catch (error) {
    return errorChain(error);
  }
}

/** Seconds until `work` succeeds, one decimal. */
async function until(work: () => Promise<unknown>): Promise<number> {
  const start = performance.now();
  for (;;) {
    try {
      await work();
      return Math.round((performance.now() - start) / 100) / 10;
    } catch (error) {
      if (performance.now() - start > 25_000) throw error;
      await sleep(100);
    }
  }
}

function httpsGet(host: string, path = "/"): Promise<string> {
  return new Promise((resolve, reject) => {
    const request = httpsRequest({
      host: "127.0.0.1",
      port: INGRESS,
      path,
      servername: host,
      headers: { host },
      ca: readFileSync(join(dir, "web-ca.pem"), "utf8"),
      agent: false,
      timeout: 6000,
    }, (response) => {
      let body = "";
      response.setEncoding("utf8");
      response.on("data", (chunk: string) => body += chunk);
      response.on(
        "end",
        () =>
          response.statusCode === 200 ? resolve(body) : reject(new Error(`${response.statusCode}`)),
      );
    });
    request.on("timeout", () => request.destroy(new Error(`${host}: nothing in 6 s`)));
    request.on("error", reject);
    request.end();
  });
}

/** Reads what a TLS server behind the ingress says, with the name of its own certificate. */
function tlsRead(servername: string): Promise<string> {
  return new Promise((resolve, reject) => {
    const socket = connectTls({
      host: "127.0.0.1",
      port: INGRESS,
      servername,
      rejectUnauthorized: false,
    });
    let body = "";
    let subject = "";
    socket.on("secureConnect", () => subject = `${socket.getPeerCertificate().subject?.CN}`);
    socket.on("data", (chunk: Uint8Array) => body += new TextDecoder().decode(chunk));
    socket.on("end", () => resolve(`${body} (${subject})`));
    socket.on("error", reject);
  });
}
