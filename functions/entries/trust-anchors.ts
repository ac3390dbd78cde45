import { readFile } from "node:fs/promises";
import type { TrustAnchor } from "#core/attestation/trust-anchor.ts";
import { AppError } from "#core/errors/app-error.ts";
import type { AttestationConfig } from "#functions/attestation/config.ts";
import {
  ROOT_NAMES,
  type RootName,
  serviceTrustAnchors,
} from "#functions/attestation/trust-anchors.ts";

/** Every vendor's root, or the one that `[attestation]` names in its place, read from its file. Throws `config/invalid`. */
export async function readTrustAnchors(config: AttestationConfig): Promise<readonly TrustAnchor[]> {
  const roots: Partial<Record<RootName, Uint8Array>> = {};
  for (const name of ROOT_NAMES) {
    const path = config.root_ca[name];
    if (path !== undefined) roots[name] = await readRoot(name, path);
  }
  return serviceTrustAnchors(roots, config.external_roots_simulated);
}

async function readRoot(name: RootName, path: string): Promise<Uint8Array> {
  try {
    return await readFile(path);
  } catch (cause) {
    const message = `attestation.root_ca.${name} cannot be read: ${path}`;
    throw new AppError("config/invalid", message, { cause });
  }
}
