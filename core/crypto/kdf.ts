import { p256 } from "@noble/curves/nist.js";
import { hkdf } from "@noble/hashes/hkdf.js";
import { sha256 } from "@noble/hashes/sha2.js";
import { concatBytes, utf8 } from "../bytes/bytes.ts";
import { AppError } from "../errors/app-error.ts";
import { encodeP256Pkcs8, type PublicPointOf } from "./p256.ts";

const SALT = utf8("RATLS");

/** One part of a derivation context; text stands for its ASCII bytes. */
export type ContextPart = Uint8Array | string;

/**
 * HKDF-SHA256 with salt `RATLS`. The context parts are concatenated without separators (kms.md 3.2),
 * so callers must pass parts of fixed length: an app id is exactly 20 bytes, an instance id 20 or 0.
 */
export function deriveKey(
  secret: Uint8Array,
  context: readonly ContextPart[],
  length: number,
): Uint8Array {
  const info = concatBytes(...context.map((part) => typeof part === "string" ? utf8(part) : part));
  return hkdf(sha256, secret, SALT, info, length);
}

/**
 * The P-256 child of a 32-byte big-endian scalar. The HKDF output is the child scalar itself; zero or
 * a value past the group order (chance 2^-32) is refused, never retried, as every replica must agree.
 */
export function deriveP256(parent: Uint8Array, context: readonly ContextPart[]): Uint8Array {
  const child = deriveKey(parent, context, 32);
  if (!p256.utils.isValidSecretKey(child)) {
    throw new AppError("internal", "Derived key is not a P-256 scalar");
  }
  return child;
}

/**
 * 32 secret bytes for X25519 or disk encryption: SHA-256 of the PKCS#8 form of the P-256 child. The
 * 138-byte encoding is part of the derivation.
 */
export function deriveDhSecret(
  parent: Uint8Array,
  context: readonly ContextPart[],
  publicPointOf?: PublicPointOf,
): Uint8Array {
  return sha256(encodeP256Pkcs8(deriveP256(parent, context), publicPointOf));
}
