import { equalBytes } from "../bytes/bytes.ts";
import { type CryptoProvider, webCrypto } from "../crypto/crypto-provider.ts";
import { refusal } from "../errors/refusal.ts";
import type { CertificateRevocationList } from "./certificate-revocation-list.ts";
import { verifySignature } from "./signature.ts";
import { EXTENSION, KEY_USAGE, type X509Certificate } from "./x509-certificate.ts";

/** Vendor chains have three certificates; more than this is nobody's. */
export const MAX_CHAIN = 8;

/** Purposes of end-entity certificates (RFC 5280 4.2.1.12; TCG EK credential profile 3.2.16). */
export const EXTENDED_KEY_USAGE = {
  serverAuth: "1.3.6.1.5.5.7.3.1",
  clientAuth: "1.3.6.1.5.5.7.3.2",
  tcgEkCertificate: "2.23.133.8.1",
} as const;

/** Critical extensions that are enforced here; any other makes a certificate unusable. */
const UNDERSTOOD: ReadonlySet<string> = new Set([
  EXTENSION.basicConstraints,
  EXTENSION.keyUsage,
  EXTENSION.extendedKeyUsage,
]);

export interface ChainTrust {
  /** The pinned root; every path ends in it. */
  readonly root: X509Certificate;
  readonly crls: readonly CertificateRevocationList[];
  /**
   * `required` (the default): every issuer on a path needs a CRL, unknown revocation status is a
   * refusal. `if-known`: an issuer without one passes; the caller says that nobody knows.
   */
  readonly revocation?: "required" | "if-known" | undefined;
  /** What certificates below the root must be for, where they say; undefined for anything. */
  readonly usage?: string | undefined;
  readonly crypto?: CryptoProvider;
}

/** The time a chain is judged for. */
export interface ChainTime {
  /** Unix seconds. */
  readonly now: number;
  /** Seconds by which a CRL may be past its nextUpdate. Certificates get no grace. */
  readonly graceSeconds: number;
}

/**
 * Verifies certificate paths to one root (RFC 5280 section 6, without policies and name constraints,
 * which are refused when critical). A signature it saw is not verified again while the parsed
 * certificate or CRL that carries it is alive.
 */
export class ChainVerifier {
  readonly #trust: ChainTrust;
  readonly #crypto: CryptoProvider;
  readonly #verified = new WeakMap<Signed, KnownSignature>();

  constructor(trust: ChainTrust) {
    this.#trust = trust;
    this.#crypto = trust.crypto ?? webCrypto;
  }

  /**
   * Starts on every signature that verify() will ask for about these chains, all at once: signatures are
   * checked on other threads, and one after the other they would mostly wait. Decides nothing.
   */
  prepare(chains: readonly (readonly X509Certificate[])[]): void {
    const { root, crls } = this.#trust;
    const paths = chains.filter(({ length }) => length <= MAX_CHAIN)
      .map((chain) => this.#pathOf(chain));
    for (const path of paths) {
      for (const [depth, certificate] of path.slice(0, -1).entries()) {
        void this.#isSignedBy(certificate, path[depth + 1]!);
      }
    }
    for (const crl of crls) {
      const issuer = [root, ...paths.flat()]
        .find(({ subject }) => equalBytes(subject, crl.issuer));
      if (issuer) void this.#isSignedBy(crl, issuer);
    }
  }

  /**
   * Verifies `chain`, leaf first, the root at its end optional. `role` says what the first one must
   * be. Throws `attestation/refused`.
   */
  async verify(
    chain: readonly X509Certificate[],
    role: "end-entity" | "ca",
    time: ChainTime,
  ): Promise<void> {
    if (chain.length === 0) {
      throw refusal("certificate-malformed", "A certificate chain is empty");
    }
    if (chain.length > MAX_CHAIN) {
      throw refusal("certificate-malformed", `A chain has ${chain.length} certificates`);
    }
    const path = this.#pathOf(chain);
    if (path.length < 2) {
      throw refusal("certificate-usage-invalid", "The root stands where a certificate is expected");
    }
    for (const [depth, certificate] of path.entries()) {
      requireValid(certificate, time);
      if (depth < path.length - 1) this.#requireUsage(certificate);
      if (depth === 0 && role === "end-entity") requireEndEntity(certificate);
      else requireCa(certificate, Math.max(0, depth - 1));
      const issuer = path[depth + 1];
      if (issuer) await this.#requireSignedBy(certificate, issuer);
    }
    for (const [depth, certificate] of path.entries()) {
      const issuer = path[depth + 1] ?? certificate; // the root's is itself
      await this.#requireNotRevoked(certificate, issuer, time);
    }
  }

  /** Verifies that `issuer` signed the CRL and that it holds now. Throws `attestation/refused`. */
  async verifyCrl(
    crl: CertificateRevocationList,
    issuer: X509Certificate,
    { now, graceSeconds }: ChainTime,
  ): Promise<void> {
    if (!equalBytes(crl.issuer, issuer.subject)) {
      throw refusal("crl-signature-invalid", "A CRL names another issuer than the one that signs");
    }
    if (!issuer.keyUsage?.has(KEY_USAGE.cRLSign)) {
      throw refusal("crl-signature-invalid", "The issuer's key may not sign CRLs");
    }
    if (!await this.#isSignedBy(crl, issuer)) {
      throw refusal("crl-signature-invalid", "A CRL's signature is not its issuer's");
    }
    if (now < crl.thisUpdate) throw refusal("crl-not-yet-valid", "A CRL is not yet valid");
    if (now > crl.nextUpdate + graceSeconds) throw refusal("crl-expired", "A CRL has expired");
  }

  /** The chain with the pinned root at its end, whether or not its sender put it there. */
  #pathOf(chain: readonly X509Certificate[]): X509Certificate[] {
    const { root } = this.#trust;
    const last = chain.at(-1);
    const endsInRoot = last !== undefined && equalBytes(last.encoded, root.encoded);
    return [...(endsInRoot ? chain.slice(0, -1) : chain), root];
  }

  #requireUsage({ extendedKeyUsage }: X509Certificate): void {
    const { usage } = this.#trust;
    if (usage !== undefined && extendedKeyUsage && !extendedKeyUsage.includes(usage)) {
      throw refusal("certificate-usage-invalid", "A certificate is for another purpose");
    }
  }

  async #requireSignedBy(certificate: X509Certificate, issuer: X509Certificate): Promise<void> {
    if (!equalBytes(certificate.issuer, issuer.subject)) {
      throw refusal("certificate-untrusted", "The certificate chain does not lead to the root");
    }
    if (!await this.#isSignedBy(certificate, issuer)) {
      throw refusal(
        "certificate-signature-invalid",
        "A certificate's signature is not its issuer's",
      );
    }
  }

  async #requireNotRevoked(
    certificate: X509Certificate,
    issuer: X509Certificate,
    time: ChainTime,
  ): Promise<void> {
    const crls = this.#trust.crls.filter((crl) => equalBytes(crl.issuer, certificate.issuer));
    if (crls.length === 0 && this.#trust.revocation !== "if-known") {
      throw refusal("revocation-unknown", "No CRL covers a certificate of the chain");
    }
    for (const crl of crls) {
      await this.verifyCrl(crl, issuer, time);
      if (crl.revoked.has(certificate.serial)) {
        throw refusal("certificate-revoked", `Certificate ${certificate.serial} is revoked`);
      }
    }
  }

  #isSignedBy(signed: Signed, issuer: X509Certificate): Promise<boolean> {
    const key = issuer.publicKey;
    const { signatureAlgorithm, tbs, signature } = signed;
    if (!key || !signatureAlgorithm) return Promise.resolve(false);
    const known = this.#verified.get(signed);
    if (known && equalBytes(known.spki, issuer.spki)) return known.verified;
    const verified = ahead(verifySignature(key, signatureAlgorithm, tbs, signature, this.#crypto));
    this.#verified.set(signed, { spki: issuer.spki, verified });
    return verified;
  }
}

/** A parsed certificate or CRL. */
type Signed = Pick<X509Certificate, "tbs" | "signature" | "signatureAlgorithm">;

interface KnownSignature {
  /** Of the key it was verified with. */
  readonly spki: Uint8Array;
  readonly verified: Promise<boolean>;
}

function requireValid(certificate: X509Certificate, { now }: ChainTime): void {
  if (now < certificate.notBefore) {
    throw refusal("certificate-not-yet-valid", "A certificate of the chain is not yet valid");
  }
  if (now > certificate.notAfter) {
    throw refusal("certificate-expired", "A certificate of the chain has expired");
  }
  for (const [oid, { critical }] of certificate.extensions) {
    if (critical && !UNDERSTOOD.has(oid)) {
      throw refusal("certificate-usage-invalid", `Critical extension ${oid} is not understood`);
    }
  }
}

/** A promise that is awaited later, or by nobody when something else fails first. */
export function ahead<T>(promise: Promise<T>): Promise<T> {
  promise.catch(() => {}); // whoever awaits it is told
  return promise;
}

function requireEndEntity(certificate: X509Certificate): void {
  if (certificate.isCa) {
    throw refusal("certificate-usage-invalid", "A CA certificate stands at the end of a chain");
  }
  if (certificate.keyUsage && !certificate.keyUsage.has(KEY_USAGE.digitalSignature)) {
    throw refusal("certificate-usage-invalid", "A certificate's key may not sign");
  }
}

/**
 * `below`: how many CA certificates stand between this one and the first of the chain, which pathLen
 * does not count (RFC 5280 4.2.1.9).
 */
function requireCa(certificate: X509Certificate, below: number): void {
  if (!certificate.isCa || !certificate.keyUsage?.has(KEY_USAGE.keyCertSign)) {
    throw refusal("certificate-usage-invalid", "A certificate that issues others is not a CA's");
  }
  if (certificate.pathLength !== undefined && below > certificate.pathLength) {
    throw refusal("certificate-usage-invalid", "A chain is longer than a CA allows");
  }
}
