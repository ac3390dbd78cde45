import type { RouteDecision } from "#functions/gateway/route.ts";
import { BACKEND } from "./haproxy-config.ts";
import { encodeRouteValue, type Upstream } from "./route-value.ts";
import type { RuntimeSocket } from "./runtime-socket.ts";
import type { UpstreamSlots } from "./upstream-slots.ts";

export interface RouteCachePorts {
  /** The routing handler: a decision for a lower-case host name, by the rows of this moment. */
  readonly decide: (host: string) => RouteDecision;
  readonly runtime: RuntimeSocket;
  /** HAProxy's name of the map: its file path. */
  readonly routeMap: string;
  readonly slots: UpstreamSlots;
  /** Unix ms. */
  readonly now: () => number;
  readonly onRefused: (host: string, reason: string) => void;
  readonly onError: (error: unknown) => void;
}

/** Names that lead nowhere are remembered only until the next refresh, and only so many. */
const MAX_ROUTES = 16_384;
const MAX_REFUSALS = 4_096;

const HOST = /^[a-z0-9.-]{1,253}$/;

/**
 * What HAProxy's route map holds. HAProxy asks once for a name it does not know; from then on the
 * map answers, and this cache rewrites the entry when the rows change the decision. All commands
 * pass through one queue, so the map always ends in the state of the newest rows.
 */
export class RouteCache {
  readonly #ports: RouteCachePorts;
  readonly #entries = new Map<string, string>();
  readonly #backendUsers = new Map<string, number>();
  #refusals = 0;
  #queue: Promise<void> = Promise.resolve();

  constructor(ports: RouteCachePorts) {
    this.#ports = ports;
  }

  /** Number of names the map holds. */
  get size(): number {
    return this.#entries.size;
  }

  /** Answers HAProxy's question with a route value, and has the map remember it. */
  answer(hostName: string): Promise<string> {
    const host = hostName.toLowerCase();
    if (!HOST.test(host)) {
      this.#ports.onRefused(hostName.slice(0, 253), "malformed-host-name");
      return Promise.resolve(
        encodeRouteValue({ kind: "refused", reason: "malformed-label" }, NOWHERE),
      );
    }
    return this.#enqueue(async () => {
      const decision = this.#ports.decide(host);
      if (decision.kind === "refused") this.#ports.onRefused(host, decision.reason);
      const value = await this.#value(decision);
      await this.#remember(host, value);
      return value;
    });
  }

  /** Decides every cached name again, by rows that have changed. */
  refresh(): Promise<void> {
    return this.#enqueue(async () => {
      const commands: string[] = [];
      for (const [host, known] of [...this.#entries]) {
        const decision = this.#ports.decide(host);
        if (decision.kind === "refused") {
          commands.push(`del map ${this.#ports.routeMap} ${host}`);
          this.#forget(host);
          continue;
        }
        const value = await this.#value(decision);
        if (value === known) continue;
        commands.push(`set map ${this.#ports.routeMap} ${host} ${value}`);
        this.#forget(host);
        this.#record(host, value);
      }
      await this.#apply(commands);
    });
  }

  /** An HAProxy that was told things by a former control plane: it forgets them and asks anew. */
  adopted(): Promise<void> {
    return this.#enqueue(() => {
      this.#ports.slots.quarantine(this.#ports.now());
      return this.#apply([`clear map ${this.#ports.routeMap}`], true);
    });
  }

  /**
   * Runs `start`, which starts an HAProxy with an empty map and empty slots. Its questions wait until the
   * old one's entries are forgotten: an answer thought to be in the map would not be written to it.
   */
  restarting<T>(start: () => Promise<T>): Promise<T> {
    return this.#enqueue(async () => {
      try {
        return await start();
      } finally {
        this.#empty();
        this.#ports.slots.reset();
      }
    });
  }

  async #value(decision: RouteDecision): Promise<string> {
    return encodeRouteValue(decision, await this.#upstream(decision));
  }

  async #upstream(decision: RouteDecision): Promise<Upstream> {
    if (decision.kind === "refused") return NOWHERE;
    if (decision.kind === "local") {
      return { backend: BACKEND.local, address: undefined, port: undefined };
    }
    const { candidates, proxyProtocol, port, appId } = decision;
    if (candidates.length > 1) {
      const grant = this.#ports.slots.grant(
        appId,
        candidates.map((candidate) => candidate.address),
        proxyProtocol,
        (backend) => (this.#backendUsers.get(backend) ?? 0) > 0,
        this.#ports.now(),
      );
      if (grant !== undefined) {
        try {
          await this.#ports.runtime.run(grant.commands);
          return { backend: grant.backend, address: undefined, port };
        } catch (error) {
          this.#ports.slots.revoke(grant.backend);
          this.#ports.onError(error);
        }
      }
    }
    const backend = proxyProtocol ? BACKEND.proxied : BACKEND.plain;
    return { backend, address: candidates[0]!.address, port };
  }

  async #remember(host: string, value: string): Promise<void> {
    const known = this.#entries.get(host);
    if (known === value) return;
    const refusal = isRefusal(value);
    if (known === undefined) {
      const full = refusal
        ? this.#refusals >= MAX_REFUSALS
        : this.#entries.size - this.#refusals >= MAX_ROUTES;
      if (full) return;
    }
    const verb = known === undefined ? "add" : "set";
    this.#forget(host);
    this.#record(host, value);
    await this.#apply([`${verb} map ${this.#ports.routeMap} ${host} ${value}`]);
  }

  #record(host: string, value: string): void {
    this.#entries.set(host, value);
    if (isRefusal(value)) this.#refusals++;
    const backend = backendOf(value);
    this.#backendUsers.set(backend, (this.#backendUsers.get(backend) ?? 0) + 1);
  }

  #forget(host: string): void {
    const value = this.#entries.get(host);
    if (value === undefined) return;
    this.#entries.delete(host);
    if (isRefusal(value)) this.#refusals--;
    const backend = backendOf(value);
    const users = (this.#backendUsers.get(backend) ?? 0) - 1;
    if (users > 0) {
      this.#backendUsers.set(backend, users);
    } else {
      this.#backendUsers.delete(backend);
      this.#ports.slots.freed(backend, this.#ports.now());
    }
  }

  #empty(): void {
    for (const host of [...this.#entries.keys()]) this.#forget(host);
  }

  /** Runs map commands. When one fails nobody knows the map any more: it is emptied, here and there. */
  async #apply(commands: readonly string[], emptied = false): Promise<void> {
    try {
      await this.#ports.runtime.run(commands);
      if (emptied) this.#empty();
    } catch (error) {
      this.#ports.onError(error);
      this.#empty();
      if (!emptied) await this.#apply([`clear map ${this.#ports.routeMap}`], true);
    }
  }

  #enqueue<T>(work: () => Promise<T>): Promise<T> {
    const done = this.#queue.then(work);
    this.#queue = done.then(ignore, ignore);
    return done;
  }
}

const NOWHERE: Upstream = { backend: "-", address: undefined, port: undefined };

function isRefusal(value: string): boolean {
  return value.startsWith("deny/");
}

function backendOf(value: string): string {
  return value.split("/", 2)[1]!;
}

function ignore(): void {
  // The caller of enqueue sees the outcome; the queue only keeps order.
}
