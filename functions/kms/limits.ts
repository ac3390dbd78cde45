import type { MiddlewareHandler } from "hono";
import { BoundedMap } from "#core/collections/bounded-map.ts";
import { AppError } from "#core/errors/app-error.ts";
import { isJson, prpcError } from "#core/rpc/server.ts";
import type { KmsEnv } from "./caller.ts";

export interface RateOptions {
  /** Tokens a second, and how many may be saved. */
  readonly perSecond: number;
  readonly burst: number;
  readonly now: () => Date;
}

/** Callers remembered at once; the one longest unheard of is forgotten, and begins anew. */
const MAX_KEYS = 10_000;

/** One token bucket a key. */
export class RateLimiter {
  readonly #options: RateOptions;
  readonly #buckets = new BoundedMap<string, { tokens: number; at: number }>(MAX_KEYS);

  constructor(options: RateOptions) {
    this.#options = options;
  }

  /** Whether one more is allowed now. */
  take(key: string): boolean {
    const { perSecond, burst, now } = this.#options;
    const at = now().getTime();
    const known = this.#buckets.get(key);
    // A clock that went back gives nothing.
    const earned = known === undefined ? burst : Math.max(0, at - known.at) / 1000 * perSecond;
    const tokens = Math.min(burst, (known?.tokens ?? 0) + earned);
    const allowed = tokens >= 1;
    this.#buckets.set(key, { tokens: allowed ? tokens - 1 : tokens, at });
    return allowed;
  }
}

/** Runs so many at a time; as many more wait for their turn, and the rest are refused. */
export class Admission {
  readonly #concurrent: number;
  readonly #maxWaiting: number;
  readonly #waiting: (() => void)[] = [];
  #running = 0;

  constructor(concurrent: number, maxWaiting: number) {
    this.#concurrent = concurrent;
    this.#maxWaiting = maxWaiting;
  }

  get waiting(): number {
    return this.#waiting.length;
  }

  /** Throws `resource/exhausted`, reason `busy`. */
  async run<T>(work: () => Promise<T>): Promise<T> {
    if (this.#running >= this.#concurrent) {
      if (this.#waiting.length >= this.#maxWaiting) {
        throw exhausted("busy", "Too many requests wait for their turn");
      }
      await new Promise<void>((resolve) => this.#waiting.push(resolve));
    } else {
      this.#running++;
    }
    try {
      return await work();
    } finally {
      const next = this.#waiting.shift();
      if (next === undefined) this.#running--;
      else next(); // which takes this one's place
    }
  }
}

/** What bounds the work that callers can cause. */
export interface Limits {
  /** Each request, by where it comes from. */
  readonly perPeer: RateLimiter;
  /** Each decision about an app that its evidence proved. */
  readonly perApp: RateLimiter;
  readonly admission: Admission;
}

/** Throws `resource/exhausted`, reason `rate-limited/app`. */
export function requireAppRate(limits: Limits, appId: string): void {
  if (limits.perApp.take(appId)) return;
  throw exhausted("rate-limited/app", "This app asks too often");
}

/** Holds every request to the limits of its peer, and lets so many run at a time. */
export function limited({ perPeer, admission }: Limits): MiddlewareHandler<KmsEnv> {
  return async (c, next) => {
    try {
      if (!perPeer.take(peerKey(c.env?.remoteAddress ?? ""))) {
        throw exhausted("rate-limited/peer", "Too many requests from this address");
      }
      await admission.run(next);
    } catch (error) {
      if (!c.req.path.startsWith("/prpc/")) throw error;
      return prpcError(error, isJson(c.req.raw));
    }
  };
}

/** An address; of IPv6 the network of 64 bits, which is one subscriber's. */
export function peerKey(address: string): string {
  const mapped = /^::ffff:(\d+\.\d+\.\d+\.\d+)$/i.exec(address);
  if (mapped) return mapped[1]!;
  if (!address.includes(":")) return address;
  const [head = "", tail] = address.split("%")[0]!.split("::");
  const groups = head === "" ? [] : head.split(":");
  const after = tail === undefined || tail === "" ? [] : tail.split(":");
  const zeros = tail === undefined ? 0 : 8 - groups.length - after.length;
  const all = [...groups, ...Array<string>(Math.max(0, zeros)).fill("0"), ...after];
  return `${all.slice(0, 4).map((group) => parseInt(group, 16).toString(16)).join(":")}::/64`;
}

function exhausted(reason: string, message: string): AppError {
  return new AppError("resource/exhausted", message, { fields: { reason } });
}
