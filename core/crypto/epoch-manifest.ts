import { equalBytes, fromHex, toHex, utf8 } from "../bytes/bytes.ts";
import { canonicalJson } from "../encoding/jcs.ts";
import { AppError } from "../errors/app-error.ts";
import { k256PublicKey, signK256, verifyK256 } from "./k256.ts";

/** The public half of one epoch of a KMS's root keys; hex. */
export interface EpochPublicKeys {
  /** From 0, without gaps; 0 are the roots the KMS was bootstrapped with. */
  readonly epoch: number;
  /** DER SubjectPublicKeyInfo, P-256. */
  readonly ca_public_key: string;
  /** 33 bytes, compressed. */
  readonly k256_public_key: string;
  /** RFC 3339. */
  readonly created_at: string;
}

/** Every epoch of a KMS. Each one's secp256k1 root signs all of it. */
export interface EpochManifest {
  readonly epochs: readonly EpochPublicKeys[];
  /** RFC 3339. */
  readonly issued_at: string;
  /** 65 bytes each, hex, in the order of the epochs. */
  readonly signatures: readonly string[];
}

/** `keys`: the 32-byte secp256k1 roots, in the order of the epochs. */
export function signEpochManifest(
  manifest: Omit<EpochManifest, "signatures">,
  keys: readonly Uint8Array[],
): EpochManifest {
  const message = messageOf(manifest);
  for (const [i, { epoch, k256_public_key }] of manifest.epochs.entries()) {
    const key = keys[i];
    if (epoch !== i || key === undefined || toHex(k256PublicKey(key)) !== k256_public_key) {
      throw new TypeError(`Epoch ${epoch} of the manifest is not that of its key`);
    }
  }
  return { ...manifest, signatures: keys.map((key) => toHex(signK256(key, message))) };
}

/**
 * Throws `crypto/invalid-signature` unless every epoch's root signed the manifest and `trusted` (33
 * bytes) is one of them: who trusts one epoch may trust those it signed for.
 */
export function verifyEpochManifest(manifest: EpochManifest, trusted: Uint8Array): void {
  const message = messageOf(manifest);
  if (manifest.signatures.length !== manifest.epochs.length) {
    throw new AppError("crypto/invalid-signature", "An epoch's signature is missing");
  }
  let found = false;
  for (const [i, { epoch, k256_public_key }] of manifest.epochs.entries()) {
    const key = fromHex(k256_public_key, "k256_public_key", 33);
    if (epoch !== i) throw new AppError("crypto/invalid-signature", "An epoch is missing");
    verifyK256(key, message, fromHex(manifest.signatures[i]!, "epoch signature", 65));
    found = equalBytes(key, trusted) || found;
  }
  if (!found) throw new AppError("crypto/invalid-signature", "No epoch has the trusted key");
}

function messageOf({ epochs, issued_at }: Omit<EpochManifest, "signatures">): Uint8Array {
  const members = epochs.map(({ epoch, ca_public_key, k256_public_key, created_at }) => ({
    epoch,
    ca_public_key,
    k256_public_key,
    created_at,
  }));
  return utf8(`dstack-edge-kms-epochs:${canonicalJson({ epochs: members, issued_at })}`);
}
