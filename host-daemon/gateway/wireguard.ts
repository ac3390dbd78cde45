import { x25519 } from "@noble/curves/ed25519.js";
import { toBase64 } from "#core/bytes/bytes.ts";
import { AppError } from "#core/errors/app-error.ts";
import type { CommandResult } from "./haproxy.ts";
import {
  parseHandshakes,
  parseInterfaceName,
  parseWireguardKey,
  wireguardConfig,
  type WireguardPeer,
} from "./wireguard-config.ts";

export interface WireguardSettings {
  readonly interface: string;
  /** Base64. */
  readonly privateKey: string;
  readonly listenPort: number;
  /** `a.b.c.d/nn`: the gateway's address and the network of the CVMs. */
  readonly address: string;
  /** Holds the private key: mode 0600. */
  readonly configPath: string;
  /** Exists while the interface is one this program made, and so may delete. */
  readonly markerPath: string;
}

export interface WireguardPorts {
  readonly run: (argv: readonly string[], timeoutMs: number) => Promise<CommandResult>;
  /** Atomic, mode 0600. */
  readonly writeText: (path: string, text: string) => Promise<void>;
  readonly exists: (path: string) => Promise<boolean>;
  readonly remove: (path: string) => Promise<void>;
  readonly sleep: (ms: number) => Promise<void>;
}

const COMMAND_TIMEOUT_MS = 10_000;
/** How long wireguard-go may take, once in the background, until it takes commands. */
const USERSPACE_START_MS = 10_000;

/** One WireGuard interface of the gateway, in the kernel or run by wireguard-go. */
export class Wireguard {
  readonly #settings: WireguardSettings;
  readonly #ports: WireguardPorts;

  constructor(settings: WireguardSettings, ports: WireguardPorts) {
    parseInterfaceName(settings.interface);
    parseWireguardKey(settings.privateKey, "core.wg.private_key");
    this.#settings = settings;
    this.#ports = ports;
  }

  /**
   * Creates the interface with its address unless it exists; an existing one is left as it is.
   * Answers who runs it. wireguard-go puts itself into the background and ends when the interface
   * is deleted.
   */
  async up(): Promise<"existing" | "kernel" | "wireguard-go"> {
    const name = this.#settings.interface;
    if ((await this.#try(["ip", "link", "show", "dev", name])).exitCode === 0) return "existing";
    await this.#ports.writeText(this.#settings.markerPath, `${name}\n`);
    const kernel = await this.#try(["ip", "link", "add", "dev", name, "type", "wireguard"]);
    if (kernel.exitCode !== 0) {
      const userspace = await this.#try(["wireguard-go", name]);
      if (userspace.exitCode !== 0) {
        throw new AppError(
          "internal",
          `Cannot create WireGuard interface ${name}: kernel: ${kernel.stderr.trim()}; ` +
            `wireguard-go: ${userspace.stderr.trim().split("\n").at(-1) ?? ""}`,
        );
      }
    }
    try {
      if (kernel.exitCode !== 0) await this.#untilAnswering();
      await this.#run(["ip", "address", "replace", this.#settings.address, "dev", name]);
      await this.#run(["ip", "link", "set", "dev", name, "up"]);
    } catch (error) {
      await this.down();
      throw error;
    }
    return kernel.exitCode === 0 ? "kernel" : "wireguard-go";
  }

  /** Makes `peers` the peers of the interface, without disturbing those that stay. */
  async syncPeers(peers: readonly WireguardPeer[]): Promise<void> {
    const { configPath } = this.#settings;
    await this.#ports.writeText(configPath, wireguardConfig(this.#settings, peers));
    await this.#run(["wg", "syncconf", this.#settings.interface, configPath]);
  }

  /** Public key → Unix seconds of the newest handshake, 0 for never. */
  async handshakes(): Promise<Map<string, number>> {
    const argv = ["wg", "show", this.#settings.interface, "latest-handshakes"];
    return parseHandshakes((await this.#run(argv)).stdout);
  }

  /** Deletes the interface, if there is one and it is ours. */
  async down(): Promise<void> {
    const { interface: name, markerPath } = this.#settings;
    if (!await this.#ports.exists(markerPath)) return;
    if ((await this.#try(["ip", "link", "show", "dev", name])).exitCode === 0) {
      await this.#run(["ip", "link", "delete", "dev", name]);
    }
    await this.#ports.remove(markerPath);
  }

  async #untilAnswering(): Promise<void> {
    const argv = ["wg", "show", this.#settings.interface, "listen-port"];
    for (let waited = 0; (await this.#try(argv)).exitCode !== 0; waited += 50) {
      if (waited >= USERSPACE_START_MS) {
        throw new AppError("internal", `wireguard-go ${this.#settings.interface} does not answer`);
      }
      await this.#ports.sleep(50);
    }
  }

  #try(argv: readonly string[]): Promise<CommandResult> {
    return this.#ports.run(argv, COMMAND_TIMEOUT_MS);
  }

  async #run(argv: readonly string[]): Promise<CommandResult> {
    const result = await this.#try(argv);
    if (result.exitCode !== 0) {
      throw new AppError("internal", `${argv.slice(0, 2).join(" ")}: ${result.stderr.trim()}`);
    }
    return result;
  }
}

/** A fresh key pair, base64, in the form `wg genkey` and `wg pubkey` print. */
export function generateWireguardKeyPair(): { privateKey: string; publicKey: string } {
  const secret = crypto.getRandomValues(new Uint8Array(32));
  // RFC 7748 section 5: WireGuard stores the scalar clamped.
  secret[0]! &= 248;
  secret[31] = (secret[31]! & 127) | 64;
  return { privateKey: toBase64(secret), publicKey: toBase64(x25519.getPublicKey(secret)) };
}

/** The public key of a private one, both base64. */
export function wireguardPublicKey(privateKey: string): string {
  return toBase64(x25519.getPublicKey(parseWireguardKey(privateKey, "WireGuard private key")));
}
