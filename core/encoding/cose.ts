import { utf8 } from "../bytes/bytes.ts";
import { AppError } from "../errors/app-error.ts";
import { type CborMap, decodeCbor, encodeCbor } from "./cbor.ts";

/** Header parameters and algorithms of COSE (RFC 9052 3.1, RFC 9053 2.1). */
const ALGORITHM = 1;
const CRITICAL = 2;
/** ECDSA with SHA-384. */
const ES384 = -35;
const TAG_18 = 0xd2;
const ES384_SIGNATURE_BYTES = 96;

/** A COSE_Sign1 message (RFC 9052 4.2) signed with ES384. */
export interface CoseSign1 {
  readonly payload: Uint8Array;
  /** Raw r || s, 96 bytes. */
  readonly signature: Uint8Array;
  /** Sig_structure: what the signature is over. */
  readonly signedBytes: Uint8Array;
}

/**
 * Parses COSE_Sign1, tagged or not, whose payload is inside and whose protected header names ES384 and
 * nothing critical. The unprotected header is not signed: it must be empty. Throws `input/malformed`
 * or `input/unsupported`.
 */
export function parseCoseSign1(bytes: Uint8Array, structure: string): CoseSign1 {
  const message = decodeCbor(bytes[0] === TAG_18 ? bytes.subarray(1) : bytes, structure);
  const parts = Array.isArray(message) ? message : [];
  const [header, unprotected, payload, signature] = parts;
  const isSign1 = parts.length === 4 && header instanceof Uint8Array &&
    unprotected instanceof Map && payload instanceof Uint8Array && signature instanceof Uint8Array;
  if (!isSign1) throw malformed(structure, "not a COSE_Sign1 message");
  if ((unprotected as CborMap).size > 0) throw malformed(structure, "an unprotected header");
  requireEs384(header, structure);
  if (signature.length !== ES384_SIGNATURE_BYTES) {
    throw malformed(structure, `a signature of ${signature.length} bytes`);
  }
  return { payload, signature, signedBytes: signedBytesOf(header, payload) };
}

/** Encodes an untagged message; `sign` signs its Sig_structure with ES384. */
export function encodeCoseSign1(
  payload: Uint8Array,
  sign: (signedBytes: Uint8Array) => Uint8Array,
): Uint8Array {
  const header = encodeCbor(new Map([[ALGORITHM, ES384]]));
  return encodeCbor([header, new Map(), payload, sign(signedBytesOf(header, payload))]);
}

/** Sig_structure without external data (RFC 9052 4.4). */
function signedBytesOf(header: Uint8Array, payload: Uint8Array): Uint8Array {
  return encodeCbor(["Signature1", header, utf8(""), payload]);
}

function requireEs384(encoded: Uint8Array, structure: string): void {
  const header = decodeCbor(encoded, structure);
  if (!(header instanceof Map)) throw malformed(structure, "a protected header that is no map");
  const members = header as CborMap;
  if (members.has(CRITICAL)) throw unsupported(structure, "critical header parameters");
  if (members.get(ALGORITHM) !== ES384) {
    throw unsupported(structure, `algorithm ${String(members.get(ALGORITHM))}, expected ES384`);
  }
}

function malformed(structure: string, what: string): AppError {
  return new AppError("input/malformed", `Cannot parse ${structure}: ${what}`);
}

function unsupported(structure: string, what: string): AppError {
  return new AppError("input/unsupported", `Cannot parse ${structure}: unsupported ${what}`);
}
