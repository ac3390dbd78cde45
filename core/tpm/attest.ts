import { ByteReader } from "../bytes/byte-reader.ts";
import { concatBytes } from "../bytes/bytes.ts";
import { AppError } from "../errors/app-error.ts";

/** Constants of TPM 2.0 part 2, revision 1.59: tables 7, 9, 11 and 19. */
const TPM_GENERATED = 0xff544347;
const TPM_ST_ATTEST_QUOTE = 0x8018;
export const TPM_ALG = { rsassa: 0x0014, ecdsa: 0x0018, sha256: 0x000b } as const;

/** Any TPM2B inside; the largest is an RSA-4096 signature. */
const MAX_TPM2B_BYTES = 1024;
const MAX_SELECTIONS = 16;
/** A bitmap of 32 registers. */
const MAX_BITMAP_BYTES = 4;
const P256_BYTES = 32;

/** Registers of one bank that a quote covers, ascending. */
export interface PcrSelection {
  /** TPM_ALG_ID of the bank's hash. */
  readonly hash: number;
  readonly indexes: readonly number[];
}

/** TPMS_ATTEST of a quote (TPM 2.0 part 2, 10.12.8): what the attestation key signed. */
export interface TpmAttest {
  /** Name of the key, as the TPM that made the quote knows it. */
  readonly qualifiedSigner: Uint8Array;
  /** What the caller wanted bound, its qualifying data. */
  readonly extraData: Uint8Array;
  readonly clockMs: bigint;
  readonly resetCount: number;
  readonly restartCount: number;
  readonly isClockSafe: boolean;
  readonly firmwareVersion: bigint;
  readonly selections: readonly PcrSelection[];
  /** Hash of the selected values, one after the other. */
  readonly pcrDigest: Uint8Array;
}

/** Throws `input/malformed`, or `input/unsupported` for another structure than a quote's. */
export function parseTpmAttest(bytes: Uint8Array): TpmAttest {
  const r = new ByteReader(bytes, "TPM quote");
  const magic = r.u32be("magic");
  if (magic !== TPM_GENERATED) throw r.malformed("magic", "is not a TPM's");
  const type = r.u16be("type");
  if (type !== TPM_ST_ATTEST_QUOTE) {
    throw new AppError(
      "input/unsupported",
      `Cannot parse TPM quote: type 0x${type.toString(16)}, expected 0x8018`,
    );
  }
  const attest = {
    qualifiedSigner: readTpm2b(r, "qualifiedSigner"),
    extraData: readTpm2b(r, "extraData"),
    clockMs: r.u64be("clock"),
    resetCount: r.u32be("resetCount"),
    restartCount: r.u32be("restartCount"),
    isClockSafe: readYesNo(r, "safe"),
    firmwareVersion: r.u64be("firmwareVersion"),
    selections: readSelections(r),
    pcrDigest: readTpm2b(r, "pcrDigest"),
  };
  r.end();
  return attest;
}

function readSelections(r: ByteReader): PcrSelection[] {
  const count = r.u32be("selection count");
  if (count > MAX_SELECTIONS) throw r.malformed("selection count", `is ${count}`);
  return Array.from({ length: count }, () => {
    const hash = r.u16be("hash");
    const bitmap = r.bounded("bitmap", r.u8("bitmap size"), MAX_BITMAP_BYTES);
    const indexes = [...Array(bitmap.length * 8).keys()]
      .filter((index) => bitmap[index >> 3]! & 1 << (index & 7));
    return { hash, indexes };
  });
}

function readYesNo(r: ByteReader, field: string): boolean {
  const value = r.u8(field);
  if (value > 1) throw r.malformed(field, `is ${value}, expected 0 or 1`);
  return value === 1;
}

function readTpm2b(r: ByteReader, field: string): Uint8Array {
  return r.bounded(field, r.u16be(`${field} size`), MAX_TPM2B_BYTES);
}

/** TPMT_SIGNATURE (TPM 2.0 part 2, 11.3.4) over SHA-256. */
export interface TpmSignature {
  readonly scheme: "rsassa" | "ecdsa";
  /** PKCS#1 v1.5, or raw r || s of P-256. */
  readonly bytes: Uint8Array;
}

/** Throws `input/malformed`, or `input/unsupported` for another algorithm. */
export function parseTpmSignature(bytes: Uint8Array): TpmSignature {
  const r = new ByteReader(bytes, "TPM signature");
  const algorithm = r.u16be("sigAlg");
  const hash = r.u16be("hash");
  if (hash !== TPM_ALG.sha256) throw unsupported(`hash 0x${hash.toString(16)}`);
  if (algorithm === TPM_ALG.rsassa) {
    const signature = readTpm2b(r, "signature");
    r.end();
    return { scheme: "rsassa", bytes: signature };
  }
  if (algorithm !== TPM_ALG.ecdsa) throw unsupported(`algorithm 0x${algorithm.toString(16)}`);
  const signature = concatBytes(readScalar(r, "signatureR"), readScalar(r, "signatureS"));
  r.end();
  return { scheme: "ecdsa", bytes: signature };
}

/** TPMs leave out leading zeros, or do not. */
function readScalar(r: ByteReader, field: string): Uint8Array {
  const bytes = r.bounded(field, r.u16be(`${field} size`), P256_BYTES);
  const scalar = new Uint8Array(P256_BYTES);
  scalar.set(bytes, P256_BYTES - bytes.length);
  return scalar;
}

function unsupported(what: string): AppError {
  return new AppError("input/unsupported", `Cannot parse TPM signature: unsupported ${what}`);
}
