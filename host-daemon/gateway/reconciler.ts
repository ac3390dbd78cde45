import type { Instance } from "#functions/gateway/ports.ts";
import type { RouteTable } from "#functions/gateway/route-table.ts";
import type { WireguardPeer } from "./wireguard-config.ts";

export interface ReconcilerPorts {
  readonly instances: () => Promise<readonly Instance[]>;
  readonly table: RouteTable;
  readonly syncPeers: (peers: readonly WireguardPeer[]) => Promise<void>;
  readonly handshakes: () => Promise<ReadonlyMap<string, number>>;
  /** Creates the tunnel interface again when it is gone. */
  readonly interfaceUp: () => Promise<unknown>;
  readonly refreshRoutes: () => Promise<void>;
  readonly storeHandshakes: (handshakes: ReadonlyMap<string, number>) => Promise<void>;
  readonly removeInstance: (instance: Instance, reason: string) => Promise<boolean>;
  readonly now: () => Date;
  readonly onError: (message: string, error: unknown) => void;
}

/** How long a new CVM's first handshake is waited for. */
const AWAITED_SECONDS = 120;

/**
 * Makes tunnel and ingress follow the rows. An effect that fails stays due: the next tick tries
 * again, so rows and effects agree in the end whatever happened between them.
 */
export class Reconciler {
  readonly #ports: ReconcilerPorts;
  #applied = "";
  #running: Promise<void> | undefined;
  #again: Promise<void> | undefined;

  constructor(ports: ReconcilerPorts) {
    this.#ports = ports;
  }

  /** Resolves when the rows of this moment, or later ones, are in force. Calls share a run. */
  apply(): Promise<void> {
    if (this.#running === undefined) {
      this.#running = this.#apply().finally(() => this.#running = undefined);
      return this.#running;
    }
    // The run under way may have read the rows already: one more follows it.
    this.#again ??= this.#running.then(() => {
      this.#again = undefined;
      return this.apply();
    });
    return this.#again;
  }

  /**
   * Whether a CVM that registered a moment ago is still without a handshake: its app id leads nowhere
   * until one is seen, so it pays to look often.
   */
  get awaitsHandshake(): boolean {
    const { table, now } = this.#ports;
    const recently = Math.floor(now().getTime() / 1000) - AWAITED_SECONDS;
    return table.instances.some(({ publicKey, registeredAt, lastHandshake }) =>
      registeredAt >= recently && lastHandshake === 0 && !table.handshakes.get(publicKey)
    );
  }

  /** Reads handshakes and decides cached routes again; retries what failed. */
  async tick(): Promise<void> {
    const { table, handshakes, interfaceUp, onError } = this.#ports;
    try {
      table.setHandshakes(await handshakes());
    } catch (error) {
      onError("reading handshakes", error);
      this.#applied = "";
      try {
        await interfaceUp();
      } catch (cause) {
        onError("creating the WireGuard interface", cause);
      }
    }
    await this.apply();
  }

  /**
   * Writes handshakes to the rows, and removes CVMs that neither registered nor had a handshake for
   * `timeoutSeconds` (gateway.md 6.8).
   */
  async recycle(timeoutSeconds: number): Promise<void> {
    const { table, storeHandshakes, removeInstance, now, onError } = this.#ports;
    try {
      await storeHandshakes(new Map([...table.handshakes].filter(([, at]) => at > 0)));
      const oldest = Math.floor(now().getTime() / 1000) - timeoutSeconds;
      for (const instance of table.instances) {
        const live = table.handshakes.get(instance.publicKey) ?? 0;
        const newest = Math.max(instance.registeredAt, instance.lastHandshake, live);
        if (newest < oldest) await removeInstance(instance, "silent");
      }
    } catch (error) {
      onError("recycling instances", error);
    }
    await this.apply();
  }

  async #apply(): Promise<void> {
    const { instances, table, syncPeers, refreshRoutes, onError } = this.#ports;
    try {
      const rows = await instances();
      table.setRows(rows);
      const peers = rows.map(({ publicKey, address }) => ({ publicKey, address }));
      const wanted = JSON.stringify(peers);
      if (wanted !== this.#applied) {
        await syncPeers(peers);
        this.#applied = wanted;
      }
    } catch (error) {
      onError("applying tunnel peers", error);
    }
    try {
      await refreshRoutes();
    } catch (error) {
      onError("refreshing routes", error);
    }
  }
}
