import { sha256, sha384, sha512 } from "@noble/hashes/sha2.js";
import {
  keccak_256,
  keccak_384,
  keccak_512,
  sha3_256,
  sha3_384,
  sha3_512,
} from "@noble/hashes/sha3.js";
import { concatBytes, utf8 } from "../bytes/bytes.ts";
import { AppError } from "../errors/app-error.ts";

/** Bytes of REPORTDATA. */
export const REPORT_DATA_BYTES = 64;

/** `ratls-cert`, `app-data`, `kms-root-ca`, or whatever an API caller chose. */
export type ReportDataTag = string;

const HASHES = {
  sha256,
  sha384,
  sha512,
  "sha3-256": sha3_256,
  "sha3-384": sha3_384,
  "sha3-512": sha3_512,
  keccak256: keccak_256,
  keccak384: keccak_384,
  keccak512: keccak_512,
} as const;

export type ReportDataAlgorithm = keyof typeof HASHES | "raw";

/**
 * What a quote vouches for: `H(tag ":" content)` from the left, zeros to 64 bytes. `raw` takes 64
 * bytes of content as they are. An empty algorithm name means sha512. Throws `input/unsupported`.
 */
export function reportData(
  tag: ReportDataTag,
  content: Uint8Array,
  algorithm: ReportDataAlgorithm | "" = "sha512",
): Uint8Array {
  if (algorithm === "raw") {
    if (content.length !== REPORT_DATA_BYTES) {
      throw new AppError(
        "input/malformed",
        `Raw report data must be 64 bytes, got ${content.length}`,
      );
    }
    return content.slice();
  }
  return paddedReportData(hashOf(algorithm)(concatBytes(utf8(`${tag}:`), content)));
}

/** The report data of an RA-TLS certificate; `spki` is its SubjectPublicKeyInfo DER. */
export function ratlsReportData(spki: Uint8Array): Uint8Array {
  return reportData("ratls-cert", spki);
}

/** At most 64 bytes, zeros to 64. */
export function paddedReportData(content: Uint8Array): Uint8Array {
  if (content.length > REPORT_DATA_BYTES) {
    throw new AppError("input/malformed", `Report data of ${content.length} bytes, at most 64`);
  }
  const padded = new Uint8Array(REPORT_DATA_BYTES);
  padded.set(content);
  return padded;
}

export function isReportDataAlgorithm(name: string): name is ReportDataAlgorithm | "" {
  return name === "" || name === "raw" || Object.hasOwn(HASHES, name);
}

function hashOf(algorithm: keyof typeof HASHES | ""): (message: Uint8Array) => Uint8Array {
  if (!isReportDataAlgorithm(algorithm)) {
    throw new AppError("input/unsupported", `Unknown report data algorithm ${algorithm}`);
  }
  return HASHES[algorithm || "sha512"];
}
