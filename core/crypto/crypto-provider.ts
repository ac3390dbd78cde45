import { sha256 } from "@noble/hashes/sha2.js";
import { toHex } from "../bytes/bytes.ts";
import type { EcdsaPublicKey } from "../x509/ecdsa.ts";

/**
 * Primitives of which some runtimes have a faster one than Web APIs offer. Every provider gives the
 * same answers; core/ uses `webCrypto` unless its caller hands it another.
 */
export interface CryptoProvider {
  sha256(bytes: Uint8Array): Uint8Array;
  /**
   * Whether `r || s`, each as long as a coordinate, is the key's signature over `message` with the hash
   * of the curve's size. A point off the curve verifies nothing. The lengths were checked by the caller,
   * `verifyEcdsa` of core/x509.
   */
  verifyEcdsa(
    key: EcdsaPublicKey,
    message: Uint8Array,
    signature: Uint8Array,
  ): boolean | Promise<boolean>;
}

/** WebCrypto, and @noble/hashes where WebCrypto would make a hash wait: on every runtime. */
export const webCrypto: CryptoProvider = {
  sha256,
  async verifyEcdsa(key, message, signature) {
    if (!isOnCurve(key)) return false;
    const { curve, point } = key;
    const imported = await crypto.subtle.importKey(
      "raw",
      point as Uint8Array<ArrayBuffer>,
      { name: "ECDSA", namedCurve: curve },
      false,
      ["verify"],
    );
    return await crypto.subtle.verify(
      { name: "ECDSA", hash: curve === "P-256" ? "SHA-256" : "SHA-384" },
      imported,
      signature as Uint8Array<ArrayBuffer>,
      message as Uint8Array<ArrayBuffer>,
    );
  },
};

/** Field prime and coefficient b of y^2 = x^3 - 3x + b (SEC 2 v2, 2.4.2 and 2.5.1). */
const CURVES: Readonly<
  Record<EcdsaPublicKey["curve"], { readonly p: bigint; readonly b: bigint }>
> = {
  "P-256": {
    p: 0xffffffff00000001000000000000000000000000ffffffffffffffffffffffffn,
    b: 0x5ac635d8aa3a93e7b3ebbd55769886bc651d06b0cc53b0f63bce3c3e27d2604bn,
  },
  "P-384": {
    p: 0xfffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffeffffffff0000000000000000ffffffffn,
    b: 0xb3312fa7e23ee7e4988e056be3f82d19181d9c6efe8141120314088f5013875ac656398d8a2ed19d2a85c8edd3ec2aefn,
  },
};

/** Runtimes refuse a bad point at different moments and with different errors: check it before. */
function isOnCurve({ curve, point }: EcdsaPublicKey): boolean {
  const length = (point.length - 1) / 2;
  const { p, b } = CURVES[curve];
  const x = BigInt(`0x${toHex(point.subarray(1, 1 + length))}`);
  const y = BigInt(`0x${toHex(point.subarray(1 + length))}`);
  return x < p && y < p && (y * y - (x * x * x - 3n * x + b)) % p === 0n;
}
