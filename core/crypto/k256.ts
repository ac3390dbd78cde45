import { secp256k1 } from "@noble/curves/secp256k1.js";
import { keccak_256 } from "@noble/hashes/sha3.js";
import { equalBytes } from "../bytes/bytes.ts";
import { AppError } from "../errors/app-error.ts";

export const K256_SIGNATURE_LENGTH = 65;

/** A fresh 32-byte secp256k1 scalar. */
export function randomK256Scalar(): Uint8Array {
  return secp256k1.utils.randomSecretKey();
}

export function isK256Scalar(scalar: Uint8Array): boolean {
  return secp256k1.utils.isValidSecretKey(scalar);
}

/** The 33-byte compressed public key of a scalar. */
export function k256PublicKey(scalar: Uint8Array): Uint8Array {
  return secp256k1.getPublicKey(scalar, true);
}

/**
 * Signs Keccak-256 of `message`: `r(32) || s(32) || recovery id(1)`, low s, recovery id 0..3 and not
 * 27/28. The nonce is RFC 6979 with SHA-256, so that replicas of a KMS answer with the same bytes.
 */
export function signK256(scalar: Uint8Array, message: Uint8Array): Uint8Array {
  const recovered = secp256k1.sign(keccak_256(message), scalar, {
    prehash: false,
    lowS: true,
    format: "recovered",
  });
  return rotateLeft(recovered);
}

/**
 * The 33-byte compressed key that made a 65-byte signature over Keccak-256 of `message`. Whoever
 * calls it must compare the key with a trusted one. Throws `crypto/invalid-signature`.
 */
export function recoverK256(signature: Uint8Array, message: Uint8Array): Uint8Array {
  if (signature.length !== K256_SIGNATURE_LENGTH) {
    throw new AppError(
      "crypto/invalid-signature",
      `Signature has ${signature.length} bytes, expected ${K256_SIGNATURE_LENGTH}`,
    );
  }
  const recoveryFirst = new Uint8Array(K256_SIGNATURE_LENGTH);
  recoveryFirst[0] = signature[64]!;
  recoveryFirst.set(signature.subarray(0, 64), 1);
  try {
    return secp256k1.recoverPublicKey(recoveryFirst, keccak_256(message), { prehash: false });
  } catch (cause) {
    throw new AppError("crypto/invalid-signature", "No public key fits the signature", { cause });
  }
}

/** Checks that `publicKey` (33 bytes) signed `message`. Throws `crypto/invalid-signature`. */
export function verifyK256(
  publicKey: Uint8Array,
  message: Uint8Array,
  signature: Uint8Array,
): void {
  if (!equalBytes(recoverK256(signature, message), publicKey)) {
    throw new AppError("crypto/invalid-signature", "Signed by another key");
  }
}

function rotateLeft(bytes: Uint8Array): Uint8Array {
  const rotated = new Uint8Array(bytes.length);
  rotated.set(bytes.subarray(1));
  rotated[bytes.length - 1] = bytes[0]!;
  return rotated;
}
