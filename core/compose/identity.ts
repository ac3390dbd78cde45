import { sha256 } from "@noble/hashes/sha2.js";
import { concatBytes } from "../bytes/bytes.ts";
import { AppError } from "../errors/app-error.ts";

/** Length of app ids, instance ids and instance seeds in bytes. */
export const ID_LENGTH = 20;

/** SHA-256 of app-compose.json exactly as received: nobody re-serialises it before hashing. */
export function composeHash(composeBytes: Uint8Array): Uint8Array {
  return sha256(composeBytes);
}

/** The app id of a compose that no operator pinned: the first 20 bytes of its hash. */
export function defaultAppId(composeHash: Uint8Array): Uint8Array {
  return composeHash.slice(0, ID_LENGTH);
}

/**
 * First 20 bytes of SHA-256(seed, app id, binding). The platform binding (spec/os.md 3.4) is empty on
 * bare TDX and SEV-SNP. An app with `no_instance_id` has the empty instance id instead.
 */
export function instanceId(
  seed: Uint8Array,
  appId: Uint8Array,
  binding: Uint8Array = new Uint8Array(),
): Uint8Array {
  // Plain concatenation is only unambiguous while the lengths are fixed.
  requireIdLength("instance id seed", seed);
  requireIdLength("app id", appId);
  return sha256(concatBytes(seed, appId, binding)).slice(0, ID_LENGTH);
}

export function requireIdLength(field: string, id: Uint8Array): void {
  if (id.length !== ID_LENGTH) {
    throw new AppError("input/malformed", `${field} must be 20 bytes, got ${id.length}`);
  }
}
