import { AppError } from "#core/errors/app-error.ts";
import { fromBase64 } from "#core/bytes/bytes.ts";

export interface WireguardPeer {
  /** Base64 of 32 bytes. */
  readonly publicKey: string;
  /** The CVM's address in the tunnel network. */
  readonly address: string;
}

/** Seconds between keepalives (gateway.md 2.4). */
const KEEPALIVE_SECONDS = 25;
/** Linux: IFNAMSIZ less the terminator. */
const MAX_INTERFACE_NAME = 15;

/** A WireGuard key: standard base64 of exactly 32 bytes. Throws `input/malformed`. */
export function parseWireguardKey(text: string, field: string): Uint8Array {
  const key = fromBase64(text, field);
  if (key.length !== 32) {
    throw new AppError("input/malformed", `Invalid ${field}: ${key.length} bytes, expected 32`);
  }
  return key;
}

export function parseInterfaceName(name: string): string {
  if (!/^[A-Za-z0-9_.-]+$/.test(name) || name.length > MAX_INTERFACE_NAME || /^\.+$/.test(name)) {
    throw new AppError("config/invalid", `Invalid core.wg.interface: ${JSON.stringify(name)}`);
  }
  return name;
}

/** The file `wg syncconf` reads; peers come in the order given. It holds the private key. */
export function wireguardConfig(
  node: { privateKey: string; listenPort: number },
  peers: readonly WireguardPeer[],
): string {
  const sections = [
    ["[Interface]", `PrivateKey = ${node.privateKey}`, `ListenPort = ${node.listenPort}`],
    ...peers.map(({ publicKey, address }) => [
      "[Peer]",
      `PublicKey = ${publicKey}`,
      `AllowedIPs = ${address}/32`,
      `PersistentKeepalive = ${KEEPALIVE_SECONDS}`,
    ]),
  ];
  return sections.map((lines) => lines.join("\n") + "\n").join("\n");
}

/** Reads `wg show <if> latest-handshakes`: public key → Unix seconds, 0 for never. */
export function parseHandshakes(text: string): Map<string, number> {
  const handshakes = new Map<string, number>();
  for (const line of text.split("\n")) {
    if (line.trim() === "") continue;
    const columns = line.trim().split(/\s+/);
    if (columns.length !== 2 || !/^\d{1,12}$/.test(columns[1]!)) {
      throw new AppError("upstream/invalid", "Cannot parse the handshake list of wg");
    }
    handshakes.set(columns[0]!, Number(columns[1]));
  }
  return handshakes;
}
