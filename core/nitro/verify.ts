import type { CryptoProvider } from "../crypto/crypto-provider.ts";
import { refusal } from "../errors/refusal.ts";
import { isZero } from "../bytes/bytes.ts";
import type { CertificateRevocationList } from "../x509/certificate-revocation-list.ts";
import { type ChainTime, ChainVerifier, EXTENDED_KEY_USAGE } from "../x509/chain.ts";
import { ecdsaKeyOf, verifyEcdsa } from "../x509/ecdsa.ts";
import type { X509Certificate } from "../x509/x509-certificate.ts";
import type { NitroDocument } from "./attestation-document.ts";

/** Seconds after which a document proves nothing about now, and by which a clock may be behind AWS's. */
const MAX_AGE_SECONDS = 3600;
const MAX_SKEW_SECONDS = 300;

export interface NitroTrust extends ChainTime {
  /** The pinned root; what the document brings as root is worth nothing. */
  readonly root: X509Certificate;
  readonly crls: readonly CertificateRevocationList[];
  readonly crypto?: CryptoProvider;
}

/** The document's own chain, leaf first. */
export function nitroChainOf({ certificate, caBundle }: NitroDocument): X509Certificate[] {
  return [certificate, ...caBundle.toReversed()];
}

/** Verifies chain and signature of a document (spec attestation.md 8.2). Throws `attestation/refused`. */
export async function verifyNitroSignature(
  document: NitroDocument,
  trust: NitroTrust,
): Promise<void> {
  const chain = nitroChainOf(document);
  const usage = EXTENDED_KEY_USAGE.clientAuth;
  const chains = new ChainVerifier({ ...trust, usage, revocation: "if-known" });
  chains.prepare([chain]);
  await chains.verify(chain, "end-entity", trust);
  const key = ecdsaKeyOf(document.certificate.publicKey, "P-384");
  if (!key) throw refusal("certificate-usage-invalid", "The document's key is not of P-384");
  const { signedBytes, signature } = document.envelope;
  if (!await verifyEcdsa(key, signedBytes, signature, trust.crypto)) {
    throw refusal("quote-signature-invalid", "The document is not signed by its certified key");
  }
}

/** Refuses a document from the future, and one that is too old to speak of now. `now` in unix seconds. */
export function requireFreshNitro({ timestampMs }: NitroDocument, now: number): void {
  const age = now - timestampMs / 1000;
  if (age < -MAX_SKEW_SECONDS) {
    throw refusal("evidence-not-yet-valid", "The document was made in the future");
  }
  if (age > MAX_AGE_SECONDS) {
    throw refusal("evidence-expired", `The document was made ${Math.floor(age)} seconds ago`);
  }
}

/** An enclave in debug mode measures nothing: PCR0 to PCR2 are zero. Throws `attestation/refused`. */
export function requireNoNitroDebug({ pcrs }: NitroDocument): void {
  if ([0, 1, 2].every((index) => isZero(pcrs.get(index) ?? new Uint8Array(0)))) {
    throw refusal("debug-enabled", "The enclave runs in debug mode: it measured nothing");
  }
}
