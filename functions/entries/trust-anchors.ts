import { readFile } from "node:fs/promises";
import type { TrustAnchor } from "#core/attestation/trust-anchor.ts";
import { AppError } from "#core/errors/app-error.ts";
import type { AttestationConfig } from "#functions/attestation/config.ts";
import { tdxTrustAnchors } from "#functions/attestation/trust-anchors.ts";

/** The roots that `[attestation]` names, read from their files. Throws `config/invalid`. */
export async function readTrustAnchors(config: AttestationConfig): Promise<readonly TrustAnchor[]> {
  const { root_ca: roots, external_roots_simulated: simulated } = config;
  if (roots.tdx === undefined) return tdxTrustAnchors(undefined, simulated);
  let root: Uint8Array;
  try {
    root = await readFile(roots.tdx);
  } catch (cause) {
    const message = `attestation.root_ca.tdx cannot be read: ${roots.tdx}`;
    throw new AppError("config/invalid", message, { cause });
  }
  return tdxTrustAnchors(root, simulated);
}
