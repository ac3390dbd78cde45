import { toHex } from "../bytes/bytes.ts";
import { decodePem } from "../encoding/pem.ts";
import { AppError } from "../errors/app-error.ts";
import { parseCrl } from "../x509/certificate-revocation-list.ts";
import { parseX509Certificate } from "../x509/x509-certificate.ts";
import type { QuoteCollateral } from "./collateral.ts";
import { pckCaOf, pckPlatformOf } from "./pck-certificate.ts";
import { pckChainOf } from "./pck-chain.ts";
import { CERTIFICATION, type Quote } from "./quote.ts";

/** Kinds of platform kept at once; a fleet has a few, a caller could make up any number. */
const MAX_ENTRIES = 64;

export interface CollateralCacheOptions {
  readonly fetch: (quote: Quote) => Promise<QuoteCollateral>;
  readonly now: () => Date;
  /** Fetched again after this many milliseconds, though it may hold for longer. */
  readonly maxAgeMs: number;
  readonly logError: (what: string, error: unknown) => void;
}

interface Entry {
  readonly fetchedAt: number;
  readonly collateral: Promise<QuoteCollateral>;
  /** Milliseconds of the earliest nextUpdate, once fetched. */
  validUntil: number;
}

/**
 * Collateral by kind of platform (FMSPC and PCK CA). Each kind is fetched once at a time, kept until
 * the first of its parts expires, and refreshed earlier when that works. Nothing here is trusted.
 */
export class CollateralCache {
  readonly #options: CollateralCacheOptions;
  readonly #entries = new Map<string, Entry>();

  constructor(options: CollateralCacheOptions) {
    this.#options = options;
  }

  async get(quote: Quote): Promise<QuoteCollateral> {
    const key = platformKey(quote);
    if (key === undefined) return await this.#options.fetch(quote);
    const now = this.#options.now().getTime();
    const known = this.#entries.get(key);
    const holds = known !== undefined && now <= known.validUntil;
    if (holds && now - known.fetchedAt < this.#options.maxAgeMs) return await known.collateral;
    return await this.#fetch(key, quote, now, holds ? known : undefined);
  }

  /** `fallback` serves for another while when nothing newer is to be had. */
  #fetch(
    key: string,
    quote: Quote,
    now: number,
    fallback: Entry | undefined,
  ): Promise<QuoteCollateral> {
    const fetched = this.#options.fetch(quote);
    const collateral = fallback === undefined ? fetched : fetched.catch((error: unknown) => {
      this.#options.logError("refreshing collateral", error);
      return fallback.collateral;
    });
    const entry: Entry = { fetchedAt: now, collateral, validUntil: Number.POSITIVE_INFINITY };
    this.#entries.delete(key);
    this.#entries.set(key, entry);
    const oldest = this.#entries.keys().next().value;
    if (this.#entries.size > MAX_ENTRIES && oldest !== undefined) this.#entries.delete(oldest);
    return collateral.then((value) => {
      entry.validUntil = earliestUpdate(value);
      return value;
    }).catch((error: unknown) => {
      if (this.#entries.get(key) === entry) this.#entries.delete(key);
      throw error;
    });
  }
}

/** Undefined for quotes without their PCK certificate: theirs comes with the collateral. */
function platformKey(quote: Quote): string | undefined {
  if (quote.signatureData.certification.type !== CERTIFICATION.pckChain) return undefined;
  const der = decodePem("CERTIFICATE", pckChainOf(quote))[0];
  if (der === undefined) {
    throw new AppError("input/malformed", "Cannot use quote: it has no PCK certificate");
  }
  const leaf = parseX509Certificate(der);
  return `${quote.header.tee}/${pckCaOf(leaf)}/${toHex(pckPlatformOf(leaf).fmspc)}`;
}

function earliestUpdate(collateral: QuoteCollateral): number {
  const updates = [collateral.tcbInfo, collateral.qeIdentity].map((text) =>
    Date.parse(JSON.parse(text).nextUpdate)
  );
  const crls = [collateral.rootCaCrl, collateral.pckCrl].map((der) => {
    const { nextUpdate } = parseCrl(der);
    return nextUpdate * 1000;
  });
  const earliest = Math.min(...updates, ...crls);
  return Number.isNaN(earliest) ? 0 : earliest;
}
