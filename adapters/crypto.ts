import { Buffer } from "node:buffer";
import { createECDH, createHash, createPublicKey, type KeyObject, verify } from "node:crypto";
import { type CryptoProvider, webCrypto } from "#core/crypto/crypto-provider.ts";
import { DER } from "#core/encoding/der.ts";
import { type EcdsaPublicKey, spkiOf } from "#core/x509/ecdsa.ts";

/** OpenSSL, which answers at once: WebCrypto hands every signature to another thread and waits for it. */
export const nodeCrypto: CryptoProvider = {
  sha256: (bytes) => new Uint8Array(createHash("sha256").update(bytes).digest()),
  verifyEcdsa(key, message, signature) {
    const hash = key.curve === "P-256" ? "sha256" : "sha384";
    const imported = keyObjectOf(key);
    return imported !== null && verify(hash, message, imported, derSignature(signature));
  },
};

/** The fastest the runtime has: Deno's node:crypto is slower than its WebCrypto. */
export const hostCrypto: CryptoProvider = "Deno" in globalThis ? webCrypto : nodeCrypto;

/** The 65-byte uncompressed P-256 point of a scalar, by OpenSSL. */
export function nodePublicPoint(scalar: Uint8Array): Uint8Array {
  const ecdh = createECDH("prime256v1");
  ecdh.setPrivateKey(scalar);
  return new Uint8Array(ecdh.getPublicKey());
}

/** Importing a key costs as much as verifying a signature, and issuers sign several. */
const keyObjects = new WeakMap<EcdsaPublicKey, KeyObject | null>();

/** Null for a point off its curve: in an encoding that is otherwise ours, OpenSSL refuses nothing else. */
function keyObjectOf(key: EcdsaPublicKey): KeyObject | null {
  const known = keyObjects.get(key);
  if (known !== undefined) return known;
  let imported: KeyObject | null;
  try {
    const spki = Buffer.from(spkiOf(key)).toString("base64");
    // Of all forms Node reads this one the fastest.
    imported = createPublicKey(`-----BEGIN PUBLIC KEY-----\n${spki}\n-----END PUBLIC KEY-----\n`);
  } catch {
    imported = null;
  }
  keyObjects.set(key, imported);
  return imported;
}

/** ECDSA-Sig-Value (RFC 3279 2.2.3): OpenSSL's own form, which it reads faster than `r || s`. */
function derSignature(signature: Uint8Array): Uint8Array {
  const half = signature.length / 2;
  const integers = [...unsigned(signature, 0, half), ...unsigned(signature, half, 2 * half)];
  return Uint8Array.of(DER.sequence, integers.length, ...integers); // 104 bytes at most
}

/** The shortest INTEGER of the digits from `from` to `end`. */
function unsigned(digits: Uint8Array, from: number, end: number): number[] {
  let at = from;
  while (at < end - 1 && digits[at] === 0) at++;
  const padding = digits[at]! < 0x80 ? [] : [0];
  return [DER.integer, padding.length + end - at, ...padding, ...digits.subarray(at, end)];
}
