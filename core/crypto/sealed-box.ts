import { hsalsa, xsalsa20poly1305 } from "@noble/ciphers/salsa.js";
import { swap32IfBE, u32 } from "@noble/ciphers/utils.js";
import { x25519 } from "@noble/curves/ed25519.js";
import { blake2b } from "@noble/hashes/blake2.js";
import { sha256 } from "@noble/hashes/sha2.js";
import { concatBytes, isZero, utf8 } from "../bytes/bytes.ts";
import { AppError } from "../errors/app-error.ts";

const PUBLIC_KEY_LENGTH = 32;
const TAG_LENGTH = 16;

/**
 * libsodium's `crypto_box_seal`: ephemeral public key (32), then XSalsa20-Poly1305 with its tag first.
 * Anyone can seal to a 32-byte X25519 public key; the recipient learns nothing about who did.
 */
export function sealBox(recipient: Uint8Array, message: Uint8Array): Uint8Array {
  const secret = x25519.utils.randomSecretKey();
  const ephemeral = x25519.getPublicKey(secret);
  const box = xsalsa20poly1305(boxKey(secret, recipient), nonceOf(ephemeral, recipient));
  return concatBytes(ephemeral, box.encrypt(message));
}

/** Opens what `sealBox` made. Throws `input/malformed`, `crypto/decryption-failed`. */
export function openSealedBox(secret: Uint8Array, sealed: Uint8Array): Uint8Array {
  if (sealed.length < PUBLIC_KEY_LENGTH + TAG_LENGTH) {
    throw new AppError("input/malformed", `Sealed box of ${sealed.length} bytes is too short`);
  }
  const ephemeral = sealed.subarray(0, PUBLIC_KEY_LENGTH);
  const nonce = nonceOf(ephemeral, x25519.getPublicKey(secret));
  const key = boxKey(secret, ephemeral);
  try {
    return xsalsa20poly1305(key, nonce).decrypt(sealed.subarray(PUBLIC_KEY_LENGTH));
  } catch (cause) {
    throw new AppError("crypto/decryption-failed", "Cannot open: wrong key or changed bytes", {
      cause,
    });
  }
}

/**
 * The 32-byte key of the local key provider for one TD (kms.md 4.1): `measurements` are MRTD and
 * RTMR0-3, `sealingKey` is bound to the provider's MRENCLAVE.
 */
export function localProviderKey(sealingKey: Uint8Array, measurements: Uint8Array): Uint8Array {
  return sha256(concatBytes(sealingKey, measurements));
}

function nonceOf(ephemeral: Uint8Array, recipient: Uint8Array): Uint8Array {
  return blake2b(concatBytes(ephemeral, recipient), { dkLen: 24 });
}

/** HSalsa20 of the shared secret over a block of zeros. */
function boxKey(secret: Uint8Array, publicKey: Uint8Array): Uint8Array {
  let shared: Uint8Array;
  try {
    shared = x25519.getSharedSecret(secret, publicKey);
  } catch (cause) {
    throw new AppError("input/malformed", "Not a usable X25519 public key", { cause });
  }
  if (isZero(shared)) throw new AppError("input/malformed", "X25519 public key has low order");
  const words = (bytes: Uint8Array) => swap32IfBE(u32(bytes.slice()));
  const key = new Uint32Array(8);
  hsalsa(words(utf8("expand 32-byte k")), words(shared), new Uint32Array(4), key);
  swap32IfBE(key);
  return new Uint8Array(key.buffer);
}
