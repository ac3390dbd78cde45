/**
 * Runs in a network namespace of its own: a gateway end made by Wireguard, a CVM end moved into a
 * second namespace, an HTTP request from one to the other. Prints what was seen as JSON.
 */
import { execFileSync, spawn } from "node:child_process";
import { readFileSync, readlinkSync, writeFileSync } from "node:fs";
import { createServer, get } from "node:http";
import { join } from "node:path";
import process from "node:process";
import { setTimeout as sleep } from "node:timers/promises";
import { hostWireguardPorts } from "./adapters/host-ports.ts";
import { Wireguard } from "./wireguard.ts";

const [dir = ".", role] = process.argv.slice(2);
const CVM = "10.77.0.2";
const PORT = 8080;

if (role === "cvm") {
  createServer((req, res) => res.end(`through the tunnel to ${req.socket.localAddress}`))
    .listen(PORT, "0.0.0.0");
} else {
  await gateway();
}

async function gateway(): Promise<void> {
  const [own, cvm, other] = JSON.parse(readFileSync(join(dir, "keys.json"), "utf8"));
  run("ip", "link", "set", "lo", "up");
  // wireguard-go's command sockets go by interface name, whatever the network namespace.
  run("mkdir", "-p", "/run/wireguard");
  run("mount", "-t", "tmpfs", "none", "/run/wireguard");
  const wireguard = new Wireguard({
    interface: "gwt0",
    privateKey: own.privateKey,
    listenPort: 51999,
    address: "10.77.0.1/24",
    configPath: join(dir, "gateway.conf"),
    markerPath: join(dir, "interface"),
  }, hostWireguardPorts);
  await wireguard.up();
  await wireguard.syncPeers([{ publicKey: cvm.publicKey, address: CVM }]);

  const runtime = "Deno" in globalThis ? ["run", "-A", "--no-check"] : [];
  const script = new URL(import.meta.url).pathname;
  const child = spawn(
    "unshare",
    ["--net", process.execPath, ...runtime, script, dir, "cvm"],
    { stdio: "ignore" },
  );
  try {
    run("wireguard-go", "gwt1");
    run("wg", "show", "gwt1"); // answers once the process in the background runs
    while (namespaceOf(child.pid!) === namespaceOf(process.pid)) await sleep(10);
    // The interface moves, its UDP socket stays in this namespace.
    run("ip", "link", "set", "gwt1", "netns", `${child.pid}`);
    const within = (...argv: string[]) => run("nsenter", "-t", `${child.pid}`, "-n", ...argv);
    within("ip", "address", "add", `${CVM}/32`, "dev", "gwt1");
    within("ip", "link", "set", "gwt1", "up");
    within("ip", "route", "add", "10.77.0.0/24", "dev", "gwt1");
    writeFileSync(
      join(dir, "cvm.conf"),
      `[Interface]\nPrivateKey = ${cvm.privateKey}\nListenPort = 51998\n` +
        `[Peer]\nPublicKey = ${own.publicKey}\nAllowedIPs = 10.77.0.1/32\n` +
        `Endpoint = 127.0.0.1:51999\nPersistentKeepalive = 1\n`,
      { mode: 0o600 },
    );
    within("wg", "syncconf", "gwt1", join(dir, "cvm.conf"));

    const body = await fetchPatiently();
    const handshake = (await wireguard.handshakes()).get(cvm.publicKey) ?? 0;
    const secondUp = await wireguard.up();
    await wireguard.syncPeers([{ publicKey: other.publicKey, address: "10.77.0.9" }]);
    const peersAfterSync = (await wireguard.handshakes()).size;
    within("ip", "link", "delete", "gwt1");
    await wireguard.down();
    await wireguard.down();
    const interfacesAfterDown = JSON.parse(run("ip", "-json", "link", "show"))
      .map((link: { ifname: string }) => link.ifname);
    console.log(JSON.stringify({
      body,
      handshakeAgeSeconds: Math.floor(Date.now() / 1000) - handshake,
      secondUp,
      peersAfterSync,
      interfacesAfterDown,
    }));
  } finally {
    child.kill("SIGKILL");
  }
}

function run(...argv: string[]): string {
  return execFileSync(argv[0]!, argv.slice(1), { encoding: "utf8", stdio: "pipe" });
}

function namespaceOf(pid: number): string {
  return readlinkSync(`/proc/${pid}/ns/net`);
}

async function fetchPatiently(): Promise<string> {
  for (let attempt = 0;; attempt++) {
    try {
      return await httpGet(`http://${CVM}:${PORT}/`);
    } catch (error) {
      if (attempt >= 50) throw error;
      await sleep(200);
    }
  }
}

function httpGet(url: string): Promise<string> {
  return new Promise((resolve, reject) => {
    const request = get(url, { timeout: 2000 }, (response) => {
      let body = "";
      response.setEncoding("utf8");
      response.on("data", (chunk: string) => body += chunk);
      response.on("end", () => resolve(body));
    });
    request.on("timeout", () => request.destroy(new Error("timeout")));
    request.on("error", reject);
  });
}
