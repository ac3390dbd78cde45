import { p256 } from "@noble/curves/nist.js";
import { concatBytes, equalBytes, fromHex } from "../bytes/bytes.ts";
import { AppError } from "../errors/app-error.ts";

/** PKCS#8 of a P-256 key with its public key (RFC 5208, RFC 5915), split around scalar and point. */
const PKCS8_HEAD = fromHex(
  "308187020100301306072a8648ce3d020106082a8648ce3d030107046d306b0201010420",
);
const PKCS8_MIDDLE = fromHex("a144034200");
/** SubjectPublicKeyInfo of a P-256 key before the 65-byte uncompressed point (RFC 5480). */
const SPKI_HEAD = fromHex("3059301306072a8648ce3d020106082a8648ce3d030107034200");

export const P256_SPKI_LENGTH = 91;
export const P256_PKCS8_LENGTH = 138;

/** A fresh 32-byte P-256 scalar. */
export function randomP256Scalar(): Uint8Array {
  return p256.utils.randomSecretKey();
}

/** The 65-byte uncompressed public point of a 32-byte scalar. */
export function p256PublicPoint(scalar: Uint8Array): Uint8Array {
  return p256.getPublicKey(scalar, false);
}

/** DER SubjectPublicKeyInfo, 91 bytes, of a 32-byte scalar's public key. */
export function p256Spki(scalar: Uint8Array): Uint8Array {
  return encodeP256Spki(p256PublicPoint(scalar));
}

/** DER SubjectPublicKeyInfo, 91 bytes, of a 65-byte uncompressed point. */
export function encodeP256Spki(point: Uint8Array): Uint8Array {
  return concatBytes(SPKI_HEAD, point);
}

/** The 65-byte point of a P-256 SubjectPublicKeyInfo in its one DER form. Throws `input/malformed`. */
export function parseP256Spki(spki: Uint8Array): Uint8Array {
  const point = spki.slice(SPKI_HEAD.length);
  if (
    spki.length !== P256_SPKI_LENGTH || !equalBytes(spki.subarray(0, SPKI_HEAD.length), SPKI_HEAD)
  ) {
    throw new AppError("input/malformed", "Cannot parse public key: not a P-256 key");
  }
  try {
    p256.Point.fromBytes(point);
  } catch (cause) {
    throw new AppError("input/malformed", "Cannot parse public key: not a point of P-256", {
      cause,
    });
  }
  return point;
}

/** As `p256PublicPoint`; some runtimes have a faster one. */
export type PublicPointOf = (scalar: Uint8Array) => Uint8Array;

/** The 138-byte PKCS#8 DER form, public key included. Key derivation hashes it: never change it. */
export function encodeP256Pkcs8(
  scalar: Uint8Array,
  publicPointOf: PublicPointOf = p256PublicPoint,
): Uint8Array {
  return concatBytes(PKCS8_HEAD, scalar, PKCS8_MIDDLE, publicPointOf(scalar));
}

/** The scalar of a PKCS#8 P-256 key as `encodeP256Pkcs8` (and OpenSSL) writes it. */
export function parseP256Pkcs8(der: Uint8Array): Uint8Array {
  const scalar = der.slice(PKCS8_HEAD.length, PKCS8_HEAD.length + 32);
  if (
    der.length !== P256_PKCS8_LENGTH || !p256.utils.isValidSecretKey(scalar) ||
    !equalBytes(encodeP256Pkcs8(scalar), der)
  ) {
    throw new AppError("input/malformed", "Cannot parse private key: not a PKCS#8 P-256 key");
  }
  return scalar;
}

/** ECDSA P-256 with SHA-256, ASN.1 DER. Deterministic nonce (RFC 6979). */
export function signP256(scalar: Uint8Array, message: Uint8Array): Uint8Array {
  return p256.sign(message, scalar, { format: "der", lowS: false });
}

/**
 * Checks an ASN.1 DER ECDSA signature over SHA-256 of `message` by the key of a P-256 SPKI. Both
 * forms of `s` are valid. Throws `crypto/invalid-signature`.
 */
export function verifyP256(spki: Uint8Array, message: Uint8Array, signature: Uint8Array): void {
  const point = parseP256Spki(spki);
  let valid: boolean;
  try {
    valid = p256.verify(signature, message, point, { format: "der", lowS: false });
  } catch (cause) {
    throw new AppError("crypto/invalid-signature", "Invalid signature", { cause });
  }
  if (!valid) throw new AppError("crypto/invalid-signature", "Invalid signature");
}
