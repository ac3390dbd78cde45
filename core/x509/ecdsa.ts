import { DER, der, derBitString, derOid, DerReader } from "../encoding/der.ts";
import { concatBytes } from "../bytes/bytes.ts";
import { type CryptoProvider, webCrypto } from "../crypto/crypto-provider.ts";
import { AppError } from "../errors/app-error.ts";
import type { RsaPublicKey } from "./rsa.ts";

export type EcdsaCurve = "P-256" | "P-384";

/** Bytes of a coordinate, and of r and s. */
export const COORDINATE_BYTES: Readonly<Record<EcdsaCurve, number>> = { "P-256": 32, "P-384": 48 };

/** A point of a named curve, uncompressed (04 || x || y). */
export interface EcdsaPublicKey {
  readonly curve: EcdsaCurve;
  readonly point: Uint8Array;
}

/**
 * Whether raw `r || s` is the key's signature over `message`, with the hash of the curve's size
 * (P-256 with SHA-256, P-384 with SHA-384). A point off the curve verifies nothing.
 */
export async function verifyEcdsa(
  key: EcdsaPublicKey,
  message: Uint8Array,
  signature: Uint8Array,
  crypto: CryptoProvider = webCrypto,
): Promise<boolean> {
  const length = COORDINATE_BYTES[key.curve];
  if (signature.length !== 2 * length) return false;
  if (key.point.length !== 1 + 2 * length || key.point[0] !== 4) return false;
  return await crypto.verifyEcdsa(key, message, signature);
}

/** Named curves (RFC 5480 2.1.1.1) and the algorithm of their keys. */
export const EC_PUBLIC_KEY = "1.2.840.10045.2.1";
export const CURVE_OIDS: Readonly<Record<EcdsaCurve, string>> = {
  "P-256": "1.2.840.10045.3.1.7",
  "P-384": "1.3.132.0.34",
};
/** DER SubjectPublicKeyInfo. */
export function spkiOf({ curve, point }: EcdsaPublicKey): Uint8Array {
  return concatBytes(SPKI_HEADS[curve], point);
}

const SPKI_HEADS: Readonly<Record<EcdsaCurve, Uint8Array>> = {
  "P-256": spkiHead("P-256"),
  "P-384": spkiHead("P-384"),
};

/** All of a key's SubjectPublicKeyInfo but the point at its end. */
function spkiHead(curve: EcdsaCurve): Uint8Array {
  const algorithm = der(DER.sequence, derOid(EC_PUBLIC_KEY), derOid(CURVE_OIDS[curve]));
  const point = new Uint8Array(1 + 2 * COORDINATE_BYTES[curve]);
  const spki = der(DER.sequence, algorithm, derBitString(point));
  return spki.subarray(0, spki.length - point.length);
}

/** The key if it is one of that curve. */
export function ecdsaKeyOf(
  key: EcdsaPublicKey | RsaPublicKey | undefined,
  curve: EcdsaCurve,
): EcdsaPublicKey | undefined {
  return key && "curve" in key && key.curve === curve ? key : undefined;
}

/** The uncompressed point of raw coordinates `x || y`. */
export function pointOf(coordinates: Uint8Array): Uint8Array {
  return concatBytes(Uint8Array.of(4), coordinates);
}

/**
 * Raw `r || s` of a DER ECDSA-Sig-Value (RFC 3279 2.2.3). Only the one DER form is read, and the
 * numbers must fit the curve. Throws `input/malformed`.
 */
export function rawSignature(der: Uint8Array, curve: EcdsaCurve): Uint8Array {
  const outer = new DerReader(der, "ECDSA signature");
  const pair = outer.enter("pair");
  outer.end();
  const r = unsigned(pair, "r", COORDINATE_BYTES[curve]);
  const s = unsigned(pair, "s", COORDINATE_BYTES[curve]);
  pair.end();
  return concatBytes(r, s);
}

function unsigned(reader: DerReader, field: string, length: number): Uint8Array {
  const content = reader.content(field, DER.integer);
  const [first, second] = content;
  const padded = first === 0;
  const digits = padded ? content.subarray(1) : content;
  const minimal = first !== undefined && first < 0x80 && (!padded || second! >= 0x80);
  if (!minimal || digits.length > length) {
    throw new AppError("input/malformed", `Cannot parse ECDSA signature: ${field} out of range`);
  }
  const bytes = new Uint8Array(length);
  bytes.set(digits, length - digits.length);
  return bytes;
}
