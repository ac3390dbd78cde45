import { DER, DerReader } from "../encoding/der.ts";
import { concatBytes } from "../bytes/bytes.ts";
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
  if (signature.length !== 2 * COORDINATE_BYTES[curve]) return false;
  if (point.length !== 1 + 2 * COORDINATE_BYTES[curve] || point[0] !== 4) return false;
  const imported = await importKey(curve, point);
  if (imported === undefined) return false;
  const hash = curve === "P-256" ? "SHA-256" : "SHA-384";
  return await crypto.subtle.verify(
    { name: "ECDSA", hash },
    imported,
    signature as Uint8Array<ArrayBuffer>,
    message as Uint8Array<ArrayBuffer>,
  );
}

/** Runtimes name the failure differently (DataError, OperationError); all mean the point is bad. */
async function importKey(curve: EcdsaCurve, point: Uint8Array): Promise<CryptoKey | undefined> {
  const algorithm = { name: "ECDSA", namedCurve: curve };
  try {
    return await crypto.subtle.importKey(
      "raw",
      point as Uint8Array<ArrayBuffer>,
      algorithm,
      false,
      ["verify"],
    );
  } catch (error) {
    if (error instanceof DOMException) return undefined;
    throw error;
  }
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
