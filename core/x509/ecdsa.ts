import { DER, DerReader } from "../encoding/der.ts";
import { concatBytes, toHex } from "../bytes/bytes.ts";
import { AppError } from "../errors/app-error.ts";

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
 * (P-256 with SHA-256, P-384 with SHA-384). A point off the curve verifies nothing. WebCrypto, so the
 * same code runs on Node, Deno, workerd and in browsers.
 */
export async function verifyEcdsa(
  key: EcdsaPublicKey,
  message: Uint8Array,
  signature: Uint8Array,
): Promise<boolean> {
  const { curve, point } = key;
  if (signature.length !== 2 * COORDINATE_BYTES[curve] || !isOnCurve(key)) return false;
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
}

/** Field prime and coefficient b of y^2 = x^3 - 3x + b (SEC 2 v2, 2.4.2 and 2.5.1). */
const CURVES: Readonly<Record<EcdsaCurve, { readonly p: bigint; readonly b: bigint }>> = {
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
  const length = COORDINATE_BYTES[curve];
  if (point.length !== 1 + 2 * length || point[0] !== 4) return false;
  const { p, b } = CURVES[curve];
  const x = BigInt(`0x${toHex(point.subarray(1, 1 + length))}`);
  const y = BigInt(`0x${toHex(point.subarray(1 + length))}`);
  return x < p && y < p && (y * y - (x * x * x - 3n * x + b)) % p === 0n;
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
