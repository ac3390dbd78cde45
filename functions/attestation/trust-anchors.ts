import { sha256 } from "@noble/hashes/sha2.js";
import {
  INTEL_TRUST_ANCHOR,
  parseTrustAnchor,
  type TrustAnchor,
} from "#core/attestation/trust-anchor.ts";
import { toHex } from "#core/bytes/bytes.ts";

/**
 * Whose quotes a service believes: Intel's, or those under the one root its owner names instead
 * (PEM or DER). The name carries the root's digest, so that verdicts and decisions tell roots apart.
 * Throws `config/invalid`.
 */
export function tdxTrustAnchors(
  externalRoot: Uint8Array | string | undefined,
  simulated: boolean,
): readonly TrustAnchor[] {
  if (externalRoot === undefined) return [INTEL_TRUST_ANCHOR];
  const anchor = parseTrustAnchor("external tdx root", externalRoot, { simulated });
  const fingerprint = toHex(sha256(anchor.certificate.encoded)).slice(0, 16);
  return [{ ...anchor, name: `${anchor.name} ${fingerprint}` }];
}
