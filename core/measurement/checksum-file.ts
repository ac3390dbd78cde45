import { sha256 } from "@noble/hashes/sha2.js";
import { equalBytes, fromHex, fromUtf8, toHex, utf8 } from "../bytes/bytes.ts";
import { AppError } from "../errors/app-error.ts";

/** The list itself; its SHA-256 is the OS image hash. */
export const CHECKSUM_FILE_NAME = "sha256sum.txt";

const MAX_BYTES = 64 * 1024;

/** File name to SHA-256, in the order of the file. */
export type Checksums = ReadonlyMap<string, Uint8Array>;

/** os_image_hash: SHA-256 of sha256sum.txt as it stands. 32 bytes. */
export function osImageHash(checksumFile: Uint8Array): Uint8Array {
  return sha256(checksumFile);
}

/** GNU sha256sum's format: hex, two spaces, name, line feed. */
export function encodeChecksumFile(checksums: Checksums): Uint8Array {
  let text = "";
  for (const [name, digest] of checksums) text += `${toHex(digest)}  ${name}\n`;
  return utf8(text);
}

/**
 * Each line is `<64 hex digits> <flat file name>`. Throws `input/malformed` for anything else: a
 * repeated name, a path, the list naming itself.
 */
export function parseChecksumFile(bytes: Uint8Array): Checksums {
  if (bytes.length > MAX_BYTES) throw malformed(`${bytes.length} bytes, at most ${MAX_BYTES}`);
  const checksums = new Map<string, Uint8Array>();
  for (const line of fromUtf8(bytes, CHECKSUM_FILE_NAME).split("\n")) {
    if (line.trim() === "") continue;
    const fields = line.trim().split(/\s+/);
    const [digest, name] = fields;
    if (fields.length !== 2 || !/^[0-9a-fA-F]{64}$/.test(digest!)) {
      throw malformed(`not a checksum line: ${JSON.stringify(line.slice(0, 100))}`);
    }
    if (!isFlatName(name!) || name === CHECKSUM_FILE_NAME) throw malformed(`file name ${name}`);
    if (checksums.has(name!)) throw malformed(`${name} is listed twice`);
    checksums.set(name!, fromHex(digest!));
  }
  return checksums;
}

/** A file name without a path in it. */
export function isFlatName(name: string): boolean {
  return /^[A-Za-z0-9_][A-Za-z0-9._-]*$/.test(name) && !name.includes("..");
}

/**
 * Binds a measurement file to an image: the list must hash to `osImageHash` and name the file with the
 * digest of `measurement`. Throws `measurement/image-mismatch`.
 */
export function checkMeasurementBinding(
  imageHash: Uint8Array,
  fileName: string,
  material: { readonly checksumFile: Uint8Array; readonly measurement: Uint8Array },
): void {
  if (!equalBytes(osImageHash(material.checksumFile), imageHash)) {
    throw mismatch("measurement material does not match os_image_hash");
  }
  const listed = parseChecksumFile(material.checksumFile).get(fileName);
  if (listed === undefined) throw mismatch(`${CHECKSUM_FILE_NAME} does not list ${fileName}`);
  if (!equalBytes(listed, sha256(material.measurement))) {
    throw mismatch(`${fileName} does not have the digest that ${CHECKSUM_FILE_NAME} lists`);
  }
}

function malformed(why: string): AppError {
  return new AppError("input/malformed", `Cannot parse ${CHECKSUM_FILE_NAME}: ${why}`);
}

function mismatch(why: string): AppError {
  return new AppError("measurement/image-mismatch", `Image refused: ${why}`);
}
