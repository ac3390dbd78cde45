import type { Instance } from "./ports.ts";
import { decideRoute, type RouteDecision, type RouteInstance } from "./route.ts";

export interface RouteTableSettings {
  /** `core.proxy.connect_top_n`. */
  readonly connectTopN: number;
  /** `core.proxy.timeouts.handshake_stale`, seconds. */
  readonly handshakeStaleSeconds: number;
  /** Base domains with a certificate in force. */
  readonly baseDomains: () => Iterable<string>;
  readonly now: () => Date;
}

/** The rows of the last read, indexed for decisions. */
export class RouteTable {
  readonly #settings: RouteTableSettings;
  #rows: readonly Instance[] = [];
  #handshakes: ReadonlyMap<string, number> = new Map();
  #byId = new Map<string, RouteInstance>();
  #byApp = new Map<string, RouteInstance[]>();

  constructor(settings: RouteTableSettings) {
    this.#settings = settings;
  }

  get instances(): readonly Instance[] {
    return this.#rows;
  }

  /** Unix seconds by public key, as this node's tunnel saw them last. */
  get handshakes(): ReadonlyMap<string, number> {
    return this.#handshakes;
  }

  setRows(rows: readonly Instance[]): void {
    this.#rows = rows;
    this.#index();
  }

  setHandshakes(handshakes: ReadonlyMap<string, number>): void {
    this.#handshakes = handshakes;
    this.#index();
  }

  decide(host: string): RouteDecision {
    const { connectTopN, handshakeStaleSeconds, baseDomains, now } = this.#settings;
    return decideRoute(host, {
      baseDomains: baseDomains(),
      instance: (id) => this.#byId.get(id),
      instancesOf: (id) => this.#byApp.get(id) ?? [],
    }, { connectTopN, handshakeStaleSeconds, now: Math.floor(now().getTime() / 1000) });
  }

  #index(): void {
    this.#byId = new Map();
    this.#byApp = new Map();
    for (const row of this.#rows) {
      const live = this.#handshakes.get(row.publicKey) ?? 0;
      const instance = { ...row, lastHandshake: Math.max(live, row.lastHandshake) };
      this.#byId.set(row.instanceId, instance);
      const siblings = this.#byApp.get(row.appId);
      if (siblings === undefined) this.#byApp.set(row.appId, [instance]);
      else siblings.push(instance);
    }
  }
}
