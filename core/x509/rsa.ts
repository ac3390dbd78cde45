import { DerReader } from "../encoding/der.ts";

/** Bits of a modulus that is accepted: weaker keys are no trust, longer ones cost time. */
const MIN_MODULUS_BITS = 2048;
const MAX_MODULUS_BITS = 4096;
/** The public exponent of every vendor's key; others make verifying as slow as their owner likes. */
const EXPONENT = 65537n;

export type RsaHash = "SHA-256" | "SHA-384" | "SHA-512";

/** How an RSA key signs (RFC 8017): the salt of PSS is as long as the hash. */
export interface RsaScheme {
  readonly name: "RSASSA-PKCS1-v1_5" | "RSA-PSS";
  readonly hash: RsaHash;
}

/** A SubjectPublicKeyInfo with an RSA key (RFC 3279 2.3.1), DER. */
export interface RsaPublicKey {
  readonly rsaSpki: Uint8Array;
}

/** Bytes of a hash, and of the PSS salt. */
export const HASH_BYTES: Readonly<Record<RsaHash, number>> = {
  "SHA-256": 32,
  "SHA-384": 48,
  "SHA-512": 64,
};

/** Whether the RSAPublicKey of a SubjectPublicKeyInfo has a modulus and exponent that are accepted. */
export function isAcceptableRsaKey(rsaPublicKey: Uint8Array): boolean {
  const outer = new DerReader(rsaPublicKey, "RSA public key");
  const key = outer.enter("key");
  outer.end();
  const modulus = key.content("modulus", 0x02);
  const exponent = key.integer("publicExponent");
  key.end();
  const isPadded = modulus[0] === 0;
  const bits = (modulus.length - (isPadded ? 1 : 0)) * 8;
  return exponent === EXPONENT && modulus[0]! < 0x80 && bits >= MIN_MODULUS_BITS &&
    bits <= MAX_MODULUS_BITS;
}

/** Whether `signature` is the key's over `message`. WebCrypto, as in ecdsa.ts. */
export async function verifyRsa(
  { rsaSpki }: RsaPublicKey,
  { name, hash }: RsaScheme,
  message: Uint8Array,
  signature: Uint8Array,
): Promise<boolean> {
  const key = await crypto.subtle.importKey(
    "spki",
    rsaSpki as Uint8Array<ArrayBuffer>,
    { name, hash },
    false,
    ["verify"],
  );
  return await crypto.subtle.verify(
    name === "RSA-PSS" ? { name, saltLength: HASH_BYTES[hash] } : { name },
    key,
    signature as Uint8Array<ArrayBuffer>,
    message as Uint8Array<ArrayBuffer>,
  );
}
