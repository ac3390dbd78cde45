import { BoundedMap } from "../collections/bounded-map.ts";
import { JsonObject } from "../encoding/json-object.ts";
import { parseRfc3339 } from "../encoding/rfc3339.ts";
import { parseStrictJson } from "../encoding/strict-json.ts";
import { AppError } from "../errors/app-error.ts";
import { parseCrl } from "../x509/certificate-revocation-list.ts";
import type { QuoteCollateral } from "./collateral.ts";
import { platformKindOf } from "./platform-kind.ts";
import type { Quote } from "./quote.ts";

/** Kinds of platform kept at once; a fleet has a few, a caller could make up any number. */
const MAX_ENTRIES = 64;

export interface CollateralCacheOptions {
  readonly fetch: (quote: Quote) => Promise<QuoteCollateral>;
  readonly now: () => Date;
  /** Fetched again after this many milliseconds, though it may hold for longer. */
  readonly maxAgeMs: number;
  readonly logError: (what: string, error: unknown) => void;
  /**
   * Whether calls at the same time wait for one fetch. Not on Workers, where a request that ends takes
   * its fetches with it. Default true.
   */
  readonly sharesFetches?: boolean;
}

interface Entry {
  readonly fetchedAt: number;
  readonly collateral: QuoteCollateral;
  /** Milliseconds of the earliest nextUpdate. */
  readonly validUntil: number;
}

/**
 * Collateral by kind of platform (FMSPC and PCK CA). Each kind is fetched once at a time, kept until
 * the first of its parts expires, and refreshed earlier when that works. Nothing here is trusted.
 */
export class CollateralCache {
  readonly #options: CollateralCacheOptions;
  readonly #entries = new BoundedMap<string, Entry>(MAX_ENTRIES);
  readonly #pending = new Map<string, Promise<QuoteCollateral>>();

  constructor(options: CollateralCacheOptions) {
    this.#options = options;
  }

  async get(quote: Quote): Promise<QuoteCollateral> {
    const key = platformKindOf(quote);
    if (key === undefined) return await this.#options.fetch(quote);
    const now = this.#options.now().getTime();
    const known = this.#entries.get(key);
    const holds = known !== undefined && now <= known.validUntil;
    if (holds && now - known.fetchedAt < this.#options.maxAgeMs) return known.collateral;
    const pending = this.#pending.get(key);
    if (pending !== undefined) return await pending;
    const fetched = this.#fetch(key, quote, now, holds ? known.collateral : undefined)
      .finally(() => this.#pending.delete(key));
    if (this.#options.sharesFetches ?? true) this.#pending.set(key, fetched);
    return await fetched;
  }

  /** `fallback` serves for another while when nothing newer is to be had. */
  async #fetch(
    key: string,
    quote: Quote,
    now: number,
    fallback: QuoteCollateral | undefined,
  ): Promise<QuoteCollateral> {
    let collateral: QuoteCollateral;
    try {
      collateral = await this.#options.fetch(quote);
    } catch (error) {
      if (fallback === undefined) throw error;
      this.#options.logError("refreshing collateral", error);
      collateral = fallback;
    }
    this.#entries.set(key, { fetchedAt: now, collateral, validUntil: earliestUpdate(collateral) });
    return collateral;
  }
}

/** Collateral that cannot be read serves nobody twice; the verdict says what is wrong with it. */
function earliestUpdate(collateral: QuoteCollateral): number {
  const { tcbInfo, qeIdentity, rootCaCrl, pckCrl } = collateral;
  try {
    const updates = [tcbInfo, qeIdentity].map((text) => {
      const json = new JsonObject(parseStrictJson(text, "collateral"), "collateral");
      return parseRfc3339(json.string("nextUpdate"), "nextUpdate").getTime();
    });
    return Math.min(
      ...updates,
      ...[rootCaCrl, pckCrl].map((der) => parseCrl(der).nextUpdate * 1000),
    );
  } catch (error) {
    if (error instanceof AppError && error.code.startsWith("input/")) return 0;
    throw error;
  }
}
