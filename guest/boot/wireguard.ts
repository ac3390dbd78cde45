import { toBase64 } from "#core/bytes/bytes.ts";
import { AppError } from "#core/errors/app-error.ts";
import type { Files, Run } from "../ports.ts";
import { runChecked } from "../run-checked.ts";

export const WIREGUARD_INTERFACE = "dstack-wg0";
export const WIREGUARD_CONFIG = `/etc/wireguard/${WIREGUARD_INTERFACE}.conf`;
const LISTEN_PORT = 9182;
/** 1500 less IPv6, UDP and WireGuard headers: what wg-quick chooses on Ethernet. */
const MTU = 1420;
/** The chain that keeps others from the WireGuard port. */
const CHAIN = "DSTACK_WG";

/** The tunnel to the gateways, from a RegisterCvm answer. */
export interface Tunnel {
  /** Base64 of 32 bytes. */
  readonly privateKey: string;
  /** IPv4. */
  readonly clientIp: string;
  readonly peers: readonly WireGuardPeer[];
}

export interface WireGuardPeer {
  readonly publicKey: string;
  /** IPv4 of the gateway inside the tunnel, without a prefix length. */
  readonly ip: string;
  /** `host:port`. */
  readonly endpoint: string;
}

/** A key pair as WireGuard writes it. */
export async function createWireGuardKey(): Promise<{ privateKey: string; publicKey: string }> {
  // The runtime's own: the library's first multiplication takes an emulated processor most of a second.
  const pair = await crypto.subtle.generateKey({ name: "X25519" }, true, [
    "deriveBits",
  ]) as CryptoKeyPair;
  const pkcs8 = new Uint8Array(await crypto.subtle.exportKey("pkcs8", pair.privateKey));
  const publicKey = new Uint8Array(await crypto.subtle.exportKey("raw", pair.publicKey));
  const secret = pkcs8.slice(PKCS8_X25519_HEAD_LENGTH, PKCS8_X25519_HEAD_LENGTH + 32);
  // Clamped as `wg genkey` does, so that the text is the same wherever it is shown.
  secret[0]! &= 248;
  secret[31]! = (secret[31]! & 127) | 64;
  return { privateKey: toBase64(secret), publicKey: toBase64(publicKey) };
}

/** PKCS#8 of an X25519 key before its 32 bytes (RFC 8410, section 7). */
const PKCS8_X25519_HEAD_LENGTH = 16;

const IPV4 = /^(?:(?:25[0-5]|2[0-4]\d|1?\d?\d)(?:\.(?!$)|$)){4}$/;
const KEY = /^[A-Za-z0-9+/]{42}[AEIMQUYcgkosw480]=$/;
const ENDPOINT = /^([A-Za-z0-9.-]{1,253}):([0-9]{1,5})$/;

/**
 * A tunnel whose texts are safe to write into a configuration; they come from a gateway that the host
 * named. Peers are sorted by key, so that equal tunnels render equally. Throws `upstream/invalid`.
 */
export function checkedTunnel(tunnel: Tunnel): Tunnel {
  const invalid = (what: string) =>
    new AppError("upstream/invalid", `The gateway answered no valid ${what}`);
  if (!IPV4.test(tunnel.clientIp)) throw invalid("client address");
  if (tunnel.peers.length === 0) throw invalid("peer");
  for (const peer of tunnel.peers) {
    if (!KEY.test(peer.publicKey)) throw invalid("peer key");
    if (!IPV4.test(peer.ip)) throw invalid("peer address");
    if (!ENDPOINT.test(peer.endpoint)) throw invalid("peer endpoint");
  }
  const byKey = (a: WireGuardPeer, b: WireGuardPeer) => a.publicKey < b.publicKey ? -1 : 1;
  return { ...tunnel, peers: [...tunnel.peers].sort(byKey) };
}

/** The configuration in wg-quick's format, as the reference writes it. */
export function renderWireGuardConfig(tunnel: Tunnel): string {
  return renderConfig(tunnel, `Address = ${tunnel.clientIp}/32\n`);
}

/** Without `Address`, which only wg-quick knows: the input of `wg setconf`. */
function renderConfig(tunnel: Tunnel, address: string): string {
  const peers = tunnel.peers.map((peer) => `
[Peer]
PublicKey = ${peer.publicKey}
AllowedIPs = ${peer.ip}/32
Endpoint = ${peer.endpoint}
PersistentKeepalive = 25
`);
  return `[Interface]
PrivateKey = ${tunnel.privateKey}
ListenPort = ${LISTEN_PORT}
${address}${peers.join("")}`;
}

/**
 * Brings the interface to what the tunnel says. A running one keeps its sessions. The key reaches `wg`
 * through its standard input. Nothing happens when the configuration is the one applied last.
 */
export async function applyTunnel(
  tunnel: Tunnel,
  force: boolean,
  ports: { readonly run: Run; readonly files: Files },
): Promise<"unchanged" | "applied"> {
  const { run, files } = ports;
  const config = renderWireGuardConfig(tunnel);
  const before = await files.read(WIREGUARD_CONFIG);
  if (!force && before !== undefined && new TextDecoder().decode(before) === config) {
    return "unchanged";
  }
  await files.makeDirectory("/etc/wireguard", 0o700);
  await files.write(WIREGUARD_CONFIG, config, 0o600);

  const exists = await files.exists(`/sys/class/net/${WIREGUARD_INTERFACE}`);
  if (!exists) {
    await runChecked(run, ["ip", "link", "add", WIREGUARD_INTERFACE, "type", "wireguard"], {
      errorCode: "guest/gateway",
    });
  }
  await allowOnly(tunnel.peers, run);
  const verb = exists ? "syncconf" : "setconf";
  await runChecked(run, ["wg", verb, WIREGUARD_INTERFACE, "/dev/stdin"], {
    input: renderConfig(tunnel, ""),
    errorCode: "guest/gateway",
  });
  const dev = ["dev", WIREGUARD_INTERFACE];
  const commands = [
    ["address", "flush", ...dev],
    ["address", "add", `${tunnel.clientIp}/32`, ...dev],
    ["link", "set", ...dev, "mtu", String(MTU), "up"],
    ...tunnel.peers.map((peer) => ["route", "replace", `${peer.ip}/32`, ...dev]),
  ];
  for (const command of commands) {
    await runChecked(run, ["ip", ...command], { errorCode: "guest/gateway" });
  }
  return "applied";
}

/** Only the gateways' addresses may reach the WireGuard port. Endpoints that are names are not limited. */
async function allowOnly(peers: readonly WireGuardPeer[], run: Run): Promise<void> {
  const hosts = peers.map((peer) => ENDPOINT.exec(peer.endpoint)![1]!);
  if (hosts.some((host) => !IPV4.test(host))) return;
  const hook = ["INPUT", "-p", "udp", "--dport", String(LISTEN_PORT), "-j", CHAIN];
  const hooked = (await run(["iptables", "-C", ...hook])).code === 0;
  const rules = [
    "*filter",
    `:${CHAIN} - [0:0]`,
    ...hosts.map((host) => `-A ${CHAIN} -s ${host}/32 -j ACCEPT`),
    `-A ${CHAIN} -j DROP`,
    ...(hooked ? [] : [`-I ${hook.join(" ")}`]),
    "COMMIT",
  ];
  await runChecked(run, ["iptables-restore", "--noflush"], {
    input: rules.join("\n") + "\n",
    errorCode: "guest/gateway",
  });
}
