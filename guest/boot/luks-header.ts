import { ByteReader } from "#core/bytes/byte-reader.ts";
import { equalBytes, fromUtf8, isZero, utf8 } from "#core/bytes/bytes.ts";
import { JsonObject } from "#core/encoding/json-object.ts";
import { parseStrictJson } from "#core/encoding/strict-json.ts";
import { AppError } from "#core/errors/app-error.ts";

/** Where the encrypted payload starts, in bytes: all before it is header and key slot. */
export const LUKS_PAYLOAD_OFFSET = 16 * 1024 * 1024;

/** The binary part of each header copy, LUKS2 on-disk format 1.0.0 section 2.1. */
const BINARY_HEADER_BYTES = 4096;
const PRIMARY_MAGIC = Uint8Array.of(0x4c, 0x55, 0x4b, 0x53, 0xba, 0xbe);
const SECONDARY_MAGIC = Uint8Array.of(0x53, 0x4b, 0x55, 0x4c, 0xba, 0xbe);
/** Offsets at which cryptsetup looks for a secondary header whose primary is gone. */
const SECONDARY_OFFSETS = [
  0x4000,
  0x8000,
  0x10000,
  0x20000,
  0x40000,
  0x80000,
  0x100000,
  0x200000,
  0x400000,
];

const CIPHER = "aes-xts-plain64";
const HASH = "sha256";
/** AES-256-XTS: two 256-bit keys. */
const KEY_BYTES = 64;
const AF_STRIPES = 4000;

/** What the first bytes of a data disk say; `damaged`: only the secondary header is there. */
export type LuksPresence = "present" | "absent" | "damaged";

/** Bytes from the start of a disk that `luksPresence` looks at: every place a header may start. */
export const LUKS_HEADER_ZONE = 4 * 1024 * 1024 + BINARY_HEADER_BYTES;

/** `start`: at least the first LUKS_HEADER_ZONE bytes of the disk, or all of a smaller one. */
export function luksPresence(start: Uint8Array): LuksPresence {
  const at = (offset: number) => start.subarray(offset, offset + 6);
  if (equalBytes(at(0), PRIMARY_MAGIC)) return "present";
  return SECONDARY_OFFSETS.some((offset) => equalBytes(at(offset), SECONDARY_MAGIC))
    ? "damaged"
    : "absent";
}

/**
 * Checks a private copy of a disk's LUKS2 header, both copies of it: the disk was written by a host
 * that is not trusted, and cryptsetup would obey whatever cipher, key slot or segment it names
 * (spec/os.md section 6). The checksums are left to cryptsetup. Answers how many bytes from the start
 * of the disk the headers and the one key slot take. Throws `guest/disk-header`.
 */
export function validateLuksHeader(header: Uint8Array): number {
  try {
    const primary = validateCopy(header, 0, 0);
    const secondary = validateCopy(header, 1, primary.size);
    return Math.max(primary.keyslotEnd, secondary.keyslotEnd);
  } catch (error) {
    if (error instanceof AppError && error.code === "guest/disk-header") throw error;
    throw new AppError("guest/disk-header", "Invalid LUKS header", { cause: error });
  }
}

/** Validates the copy that starts at `start`; answers its size, and where the key slot's area ends. */
function validateCopy(
  header: Uint8Array,
  copy: 0 | 1,
  start: number,
): { readonly size: number; readonly keyslotEnd: number } {
  const r = new ByteReader(header.subarray(start), `LUKS header copy ${copy}`);
  const magic = r.bytes("magic", 6);
  if (!equalBytes(magic, copy === 0 ? PRIMARY_MAGIC : SECONDARY_MAGIC)) throw invalid("magic");
  if (r.u16be("version") !== 2) throw invalid("version");
  const size = r.u64be("hdr_size");
  if (size < BigInt(BINARY_HEADER_BYTES) || size > BigInt(LUKS_PAYLOAD_OFFSET)) {
    throw invalid("header size");
  }
  r.u64be("seqid");
  if (!isZero(r.bytes("label", 48))) throw invalid("label: must be empty");
  const algorithm = r.bytes("checksum_alg", 32);
  if (!equalBytes(algorithm.subarray(0, 6), utf8(HASH)) || !isZero(algorithm.subarray(6))) {
    throw invalid("checksum algorithm");
  }
  r.bytes("salt", 64);
  r.bytes("uuid", 40);
  if (!isZero(r.bytes("subsystem", 48))) throw invalid("subsystem: must be empty");
  if (r.u64be("hdr_offset") !== BigInt(copy) * size) throw invalid("header offset");

  const text = header.subarray(start + BINARY_HEADER_BYTES, start + Number(size));
  if (text.length !== Number(size) - BINARY_HEADER_BYTES) throw invalid("header size");
  const end = text.indexOf(0);
  if (end === -1) throw invalid("JSON: not terminated");
  const json = parseStrictJson(fromUtf8(text.subarray(0, end), "LUKS JSON"), "LUKS JSON", {
    maxSize: LUKS_PAYLOAD_OFFSET,
  });
  const keyslotEnd = validateJson(new JsonObject(json, "LUKS JSON"), size);
  return { size: Number(size), keyslotEnd };
}

function validateJson(json: JsonObject, headerSize: bigint): number {
  const keyslot = onlyMember(json, "keyslots");
  const segment = onlyMember(json, "segments");
  const digest = onlyMember(json, "digests");
  if (Object.keys(objectOf(json, "tokens")).length !== 0) throw invalid("tokens: none is allowed");
  const config = new JsonObject(json.raw("config"), "LUKS config");
  for (const name of ["flags", "requirements"]) {
    if (config.has(name)) throw invalid(`config ${name}: none is allowed`);
  }
  validateSegment(segment);
  validateDigest(digest);
  return validateKeyslot(keyslot, headerSize);
}

/** Answers where the key slot's area ends. */
function validateKeyslot(keyslot: JsonObject, headerSize: bigint): number {
  const area = new JsonObject(keyslot.raw("area"), "LUKS keyslot area");
  const kdf = new JsonObject(keyslot.raw("kdf"), "LUKS keyslot kdf");
  const af = new JsonObject(keyslot.raw("af"), "LUKS keyslot af");
  expect("keyslot type", keyslot.raw("type"), "luks2");
  expect("keyslot key size", keyslot.raw("key_size"), KEY_BYTES);
  if (keyslot.has("priority")) throw invalid("keyslot priority: none is allowed");
  expect("keyslot area type", area.raw("type"), "raw");
  expect("keyslot encryption", area.raw("encryption"), CIPHER);
  expect("keyslot area key size", area.raw("key_size"), KEY_BYTES);
  const offset = decimal(area, "offset");
  const size = decimal(area, "size");
  if (offset < 2n * headerSize || offset + size > BigInt(LUKS_PAYLOAD_OFFSET)) {
    throw invalid("keyslot area");
  }
  expect("keyslot kdf", kdf.raw("type"), "pbkdf2");
  expect("keyslot kdf hash", kdf.raw("hash"), HASH);
  expect("keyslot af", af.raw("type"), "luks1");
  expect("keyslot af hash", af.raw("hash"), HASH);
  expect("keyslot af stripes", af.raw("stripes"), AF_STRIPES);
  return Number(offset + size);
}

function validateSegment(segment: JsonObject): void {
  expect("segment type", segment.raw("type"), "crypt");
  if (decimal(segment, "offset") !== BigInt(LUKS_PAYLOAD_OFFSET)) throw invalid("segment offset");
  expect("segment size", segment.raw("size"), "dynamic");
  if (decimal(segment, "iv_tweak") !== 0n) throw invalid("segment iv_tweak");
  expect("segment encryption", segment.raw("encryption"), CIPHER);
  expect("segment sector size", segment.raw("sector_size"), 512);
  for (const name of ["integrity", "flags"]) {
    if (segment.has(name)) throw invalid(`segment ${name}: none is allowed`);
  }
}

function validateDigest(digest: JsonObject): void {
  expect("digest type", digest.raw("type"), "pbkdf2");
  expect("digest hash", digest.raw("hash"), HASH);
  for (const name of ["keyslots", "segments"]) {
    if (digest.strings(name).join() !== "0") throw invalid(`digest ${name}`);
  }
}

/** The one member of `json[name]`, whose key must be "0". */
function onlyMember(json: JsonObject, name: string): JsonObject {
  const members = objectOf(json, name);
  if (Object.keys(members).join() !== "0") throw invalid(`${name}: exactly one, "0", is allowed`);
  return new JsonObject(members["0"], `LUKS ${name}`);
}

function objectOf(json: JsonObject, name: string): Record<string, unknown> {
  const value = json.raw(name);
  if (typeof value !== "object" || value === null || Array.isArray(value)) {
    throw invalid(`${name}: must be an object`);
  }
  return value as Record<string, unknown>;
}

/** LUKS2 writes 64-bit numbers as decimal text; leading zeros parse, as in cryptsetup. */
function decimal(object: JsonObject, name: string): bigint {
  const text = object.raw(name);
  if (typeof text !== "string" || !/^[0-9]{1,20}$/.test(text)) throw invalid(`${name}: no number`);
  const value = BigInt(text);
  if (value >= 1n << 64n) throw invalid(`${name}: larger than 64 bits`);
  return value;
}

function expect(what: string, actual: unknown, expected: string | number): void {
  if (actual !== expected) {
    throw invalid(`${what}: ${JSON.stringify(actual)?.slice(0, 60)}, expected ${expected}`);
  }
}

function invalid(what: string): AppError {
  return new AppError("guest/disk-header", `Invalid LUKS ${what}`);
}
