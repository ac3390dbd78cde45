import { BACKEND, type SlotSettings } from "./haproxy-config.ts";

/**
 * A freed slot serves another app only after this long: a connection that was sent to it just before
 * may still be retrying its servers, and must not reach another app's instance.
 */
export const SLOT_QUARANTINE_MS = 60_000;

interface Slot {
  readonly backend: string;
  /** "" when no app has it. */
  appId: string;
  addresses: string;
  /** Unix ms when the last cached route let go of it. */
  freedAt: number;
}

export interface SlotGrant {
  readonly backend: string;
  /** Runtime commands that must succeed before a route names the backend. */
  readonly commands: readonly string[];
}

/**
 * Hands out the backends for apps with several instances. There is a fixed number of them, as
 * HAProxy cannot add a backend at run time; when all are taken there is no grant, and the app is
 * reached through its freshest instance alone.
 */
export class UpstreamSlots {
  readonly #settings: SlotSettings;
  readonly #plain: Slot[];
  readonly #proxied: Slot[];

  constructor(settings: SlotSettings) {
    this.#settings = settings;
    this.#plain = emptySlots(settings.plain, BACKEND.plainSlot);
    this.#proxied = emptySlots(settings.proxied, BACKEND.proxiedSlot);
  }

  /** Forgets all grants: a fresh HAProxy has every slot empty. */
  reset(): void {
    for (const slot of this.#all()) Object.assign(slot, { appId: "", addresses: "", freedAt: 0 });
  }

  /** An HAProxy with unknown grants was adopted: none is handed out before the quarantine is over. */
  quarantine(now: number): void {
    for (const slot of this.#all()) {
      Object.assign(slot, { appId: "?", addresses: "?", freedAt: now });
    }
  }

  /** `inUse` tells whether a cached route names the backend; `now` in ms. */
  grant(
    appId: string,
    candidates: readonly string[],
    proxyProtocol: boolean,
    inUse: (backend: string) => boolean,
    now: number,
  ): SlotGrant | undefined {
    const used = candidates.slice(0, this.#settings.servers);
    const addresses = [...used].sort().join(" ");
    const slots = proxyProtocol ? this.#proxied : this.#plain;
    const held = slots.find((slot) => slot.appId === appId && slot.addresses === addresses);
    if (held !== undefined) return { backend: held.backend, commands: [] };
    const idle = slots.filter((slot) => !inUse(slot.backend));
    const chosen = idle.find((slot) => slot.appId === appId) ??
      idle.find((slot) => slot.appId === "") ??
      idle.filter((slot) => now - slot.freedAt >= SLOT_QUARANTINE_MS)
        .sort((a, b) => a.freedAt - b.freedAt)[0];
    if (chosen === undefined) return undefined;
    Object.assign(chosen, { appId, addresses });
    return { backend: chosen.backend, commands: this.#commands(chosen.backend, used) };
  }

  /** The last cached route that named `backend` is gone. */
  freed(backend: string, now: number): void {
    for (const slot of this.#all()) if (slot.backend === backend) slot.freedAt = now;
  }

  /** A grant whose commands failed: its servers are in no known state. */
  revoke(backend: string): void {
    for (const slot of this.#all()) if (slot.backend === backend) slot.addresses = "?";
  }

  #all(): Slot[] {
    return [...this.#plain, ...this.#proxied];
  }

  #commands(backend: string, addresses: readonly string[]): string[] {
    const commands: string[] = [];
    for (let i = 0; i < this.#settings.servers; i++) {
      const server = `${backend}/${BACKEND.slotServer(i)}`;
      const address = addresses[i];
      if (address === undefined) {
        commands.push(`set server ${server} state maint`);
      } else {
        commands.push(`set server ${server} addr ${address}`, `set server ${server} state ready`);
      }
    }
    return commands;
  }
}

function emptySlots(count: number, name: (index: number) => string): Slot[] {
  return Array.from(
    { length: count },
    (_, i) => ({ backend: name(i), appId: "", addresses: "", freedAt: 0 }),
  );
}
