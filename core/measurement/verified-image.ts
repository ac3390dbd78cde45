import { equalBytes, fromUtf8, toHex } from "../bytes/bytes.ts";
import { AppError } from "../errors/app-error.ts";
import {
  CHECKSUM_FILE_NAME,
  type Checksums,
  osImageHash,
  parseChecksumFile,
} from "./checksum-file.ts";
import { sha256Of } from "./digest.ts";
import { type ImageManifest, MANIFEST_FILE_NAME, parseImageManifest } from "./image-manifest.ts";
import type { TdxImageFiles } from "./measure-image.ts";

/** The folder of one image. Names are flat; the port must not follow links out of the folder. */
export interface ImageFolder {
  /** Undefined when the file does not exist. Refuses files larger than `maxBytes`. */
  readonly read: (name: string, maxBytes: number) => Promise<Uint8Array | undefined>;
  /** SHA-256 of a file of any size; undefined when it does not exist. */
  readonly sha256: (name: string) => Promise<Uint8Array | undefined>;
}

export interface VerifiedImage {
  /** Names the image to KMS, contracts and verifiers. */
  readonly osImageHash: Uint8Array;
  readonly manifest: ImageManifest;
  readonly checksumFile: Uint8Array;
  readonly checksums: Checksums;
  /** measurement.tdx.cbor, when the image lists one. */
  readonly tdxMeasurement: Uint8Array | undefined;
}

const MAX_SMALL_FILE = 64 * 1024;
const TDX_MEASUREMENT = "measurement.tdx.cbor";

/**
 * Checks every file that sha256sum.txt lists, and digest.txt where there is one. The root file system
 * is not among them: its dm-verity root stands in the manifest's command line.
 * Throws `measurement/image-mismatch` or `input/malformed`.
 */
export async function verifyImage(
  folder: ImageFolder,
  expectedHash?: Uint8Array,
): Promise<VerifiedImage> {
  const checksumFile = await readRequired(folder, CHECKSUM_FILE_NAME);
  const checksums = parseChecksumFile(checksumFile);
  const hash = osImageHash(checksumFile);
  if (expectedHash !== undefined && !equalBytes(hash, expectedHash)) {
    throw mismatch(`its hash is ${toHex(hash)}, expected ${toHex(expectedHash)}`);
  }
  const digestFile = await folder.read("digest.txt", MAX_SMALL_FILE);
  if (digestFile !== undefined && fromUtf8(digestFile, "digest.txt").trim() !== toHex(hash)) {
    throw mismatch(`digest.txt is not the SHA-256 of ${CHECKSUM_FILE_NAME}`);
  }
  for (const [name, listed] of checksums) await checkFile(folder, name, listed);

  const manifest = parseImageManifest(await readListed(folder, MANIFEST_FILE_NAME, checksums));
  for (const name of [manifest.bios, manifest.kernel, manifest.initrd]) {
    if (name !== undefined) listedDigest(name, checksums);
  }
  const tdxMeasurement = checksums.has(TDX_MEASUREMENT)
    ? await readListed(folder, TDX_MEASUREMENT, checksums)
    : undefined;
  return { osImageHash: hash, manifest, checksumFile, checksums, tdxMeasurement };
}

/** Largest kernel, initrd or firmware that is read into memory. */
const MAX_BOOT_FILE = 1024 ** 3;

/**
 * The parts of a verified image that a TD measures; the very bytes are checked again.
 * Throws `measurement/image-mismatch`, or `measurement/unsupported` for an image without TDX firmware.
 */
export async function readTdxFiles(
  folder: ImageFolder,
  { manifest, checksums }: VerifiedImage,
): Promise<TdxImageFiles> {
  const { bios, kernel, initrd, cmdline } = manifest;
  if (bios === undefined) {
    throw new AppError("measurement/unsupported", "The image has no TDX firmware (bios)");
  }
  const read = (name: string) => readListed(folder, name, checksums, MAX_BOOT_FILE);
  const files = await Promise.all([read(bios), read(kernel), read(initrd)]);
  return { firmware: files[0], kernel: files[1], initrd: files[2], cmdline };
}

/** A small file, if the verified image lists it: a measurement document, say. */
export async function readListedFile(
  folder: ImageFolder,
  { checksums }: VerifiedImage,
  name: string,
): Promise<Uint8Array | undefined> {
  return checksums.has(name) ? await readListed(folder, name, checksums) : undefined;
}

async function checkFile(folder: ImageFolder, name: string, listed: Uint8Array): Promise<void> {
  const actual = await folder.sha256(name);
  if (actual === undefined) throw mismatch(`${name} is missing`);
  if (!equalBytes(actual, listed)) {
    throw mismatch(`${name} has SHA-256 ${toHex(actual)}, listed is ${toHex(listed)}`);
  }
}

/** Checks the very bytes it returns: the file may have changed since its digest was taken. */
async function readListed(
  folder: ImageFolder,
  name: string,
  checksums: Checksums,
  maxBytes = MAX_SMALL_FILE,
): Promise<Uint8Array> {
  const bytes = await readRequired(folder, name, maxBytes);
  if (equalBytes(await sha256Of(bytes), listedDigest(name, checksums))) return bytes;
  throw mismatch(`${name} changed while the image was checked`);
}

function listedDigest(name: string, checksums: Checksums): Uint8Array {
  const digest = checksums.get(name);
  if (digest === undefined) throw mismatch(`${CHECKSUM_FILE_NAME} does not list ${name}`);
  return digest;
}

async function readRequired(
  folder: ImageFolder,
  name: string,
  maxBytes = MAX_SMALL_FILE,
): Promise<Uint8Array> {
  const bytes = await folder.read(name, maxBytes);
  if (bytes === undefined) throw mismatch(`${name} is missing`);
  return bytes;
}

function mismatch(why: string): AppError {
  return new AppError("measurement/image-mismatch", `Image refused: ${why}`);
}
