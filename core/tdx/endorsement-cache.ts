import { BoundedMap } from "../collections/bounded-map.ts";
import { concatBytes, toHex, utf8 } from "../bytes/bytes.ts";
import { webCrypto } from "../crypto/crypto-provider.ts";
import type { X509Certificate } from "../x509/x509-certificate.ts";
import { type QuoteCollateral } from "./collateral.ts";
import { type DcapTrust, type VerifiedCollateral, verifyCollateral } from "./dcap-verify.ts";

/** Kinds of platform verified at once; a fleet has a few, a caller could make up any number. */
const MAX_COLLATERAL = 64;
/** A chain has three certificates, and a rack of machines shares all but one of them. */
const MAX_CERTIFICATES = 1024;

/**
 * What was verified once is not verified again: collateral by the SHA-256 of its content and the root,
 * for as long as all of it holds. Certificates are kept parsed, by their text, whoever sent them.
 */
export class EndorsementCache {
  readonly certificates = new BoundedMap<string, X509Certificate>(MAX_CERTIFICATES);
  readonly #collateral = new BoundedMap<string, VerifiedCollateral>(MAX_COLLATERAL);

  /** `verifyCollateral`, or its earlier answer while no date in it has passed. */
  async verifyCollateral(
    collateral: QuoteCollateral,
    trust: DcapTrust,
  ): Promise<VerifiedCollateral> {
    const key = contentKey(collateral, trust);
    const known = this.#collateral.get(key);
    if (known && holdsAt(known, trust.now)) return known;
    const verified = await verifyCollateral(collateral, trust, this.certificates);
    // Past its window it passed by grace, which is another caller's to give.
    if (holdsAt(verified, trust.now)) this.#collateral.set(key, verified);
    return verified;
  }
}

function holdsAt({ validFrom, validUntil }: VerifiedCollateral, now: number): boolean {
  return validFrom <= now && now <= validUntil;
}

function contentKey(collateral: QuoteCollateral, { root, crypto = webCrypto }: DcapTrust): string {
  const texts = [
    collateral.pckCrlIssuerChain,
    collateral.tcbInfoIssuerChain,
    collateral.tcbInfo,
    collateral.qeIdentityIssuerChain,
    collateral.qeIdentity,
  ];
  const bytes = [
    root.encoded,
    collateral.rootCaCrl,
    collateral.pckCrl,
    collateral.tcbInfoSignature,
    collateral.qeIdentitySignature,
  ];
  // The lengths tell where each member ends, in units that no two texts share by accident.
  const lengths = [...texts, ...bytes].map(({ length }) => length).join();
  return toHex(crypto.sha256(concatBytes(utf8([lengths, ...texts].join("\n")), ...bytes)));
}
