import { AppError } from "../errors/app-error.ts";
import { sha256Of, sha384Of } from "./digest.ts";

const PE32_PLUS = 0x20b;
const PE32 = 0x10b;
const MAX_SECTIONS = 96; // Windows' own limit
const CERTIFICATE_DIRECTORY = 4;

/** PE image digest with SHA-384, what firmware extends into RTMR1. 48 bytes. */
export function authenticodeSha384(image: Uint8Array): Promise<Uint8Array> {
  return sha384Of(authenticodeInput(image));
}

/** PE image digest with SHA-256, which identifies a UKI on GCP. 32 bytes. */
export function authenticodeSha256(image: Uint8Array): Promise<Uint8Array> {
  return sha256Of(authenticodeInput(image));
}

/**
 * The bytes that "Windows Authenticode Portable Executable Signature Format" hashes: headers without
 * checksum and certificate directory, sections by file offset, what follows them but the certificates,
 * zero padding to eight bytes. Throws `input/malformed`.
 */
export function authenticodeInput(image: Uint8Array): Uint8Array {
  const view = new PeView(image);
  const pe = view.u32(0x3c);
  if (view.u32(pe) !== 0x4550) throw malformed("no PE signature"); // "PE\0\0"
  const sectionCount = view.u16(pe + 6);
  if (sectionCount > MAX_SECTIONS) throw malformed(`${sectionCount} sections`);
  const optional = pe + 24;
  const magic = view.u16(optional);
  if (magic !== PE32 && magic !== PE32_PLUS) {
    throw malformed(`optional header 0x${magic.toString(16)}`);
  }
  const directories = optional + (magic === PE32_PLUS ? 112 : 96);
  const certificates = directories + CERTIFICATE_DIRECTORY * 8;
  const headersLength = view.u32(optional + 60);
  if (headersLength > image.length || certificates + 8 > headersLength) {
    throw malformed("the headers do not fit");
  }

  const ranges: [start: number, end: number][] = [
    [0, optional + 64],
    [optional + 68, certificates],
    [certificates + 8, headersLength],
  ];
  let hashed = headersLength;
  const sectionTable = optional + view.u16(pe + 20);
  const sections = Array.from({ length: sectionCount }, (_, i) => ({
    size: view.u32(sectionTable + i * 40 + 16),
    start: view.u32(sectionTable + i * 40 + 20),
  }));
  for (const { start, size } of sections.toSorted((a, b) => a.start - b.start)) {
    if (size === 0) continue;
    const end = Math.min(start + size, image.length);
    if (start > end) throw malformed("a section starts after the end of the file");
    ranges.push([start, end]);
    hashed += size;
  }
  const certificatesLength = view.u32(certificates) === 0 ? 0 : view.u32(certificates + 4);
  const end = image.length - certificatesLength;
  if (end < 0) throw malformed("the certificate table is larger than the file");
  if (hashed < end) ranges.push([hashed, end]);
  return join(image, ranges);
}

function join(image: Uint8Array, ranges: readonly (readonly [number, number])[]): Uint8Array {
  const length = ranges.reduce((sum, [start, end]) => sum + end - start, 0);
  const padding = (8 - image.length % 8) % 8;
  const joined = new Uint8Array(length + padding);
  let at = 0;
  for (const [start, end] of ranges) {
    joined.set(image.subarray(start, end), at);
    at += end - start;
  }
  return joined;
}

/** Bounds-checked little-endian reads at offsets the file itself names. */
class PeView {
  readonly #view: DataView;

  constructor(image: Uint8Array) {
    this.#view = new DataView(image.buffer, image.byteOffset, image.byteLength);
  }

  u16(offset: number): number {
    this.#require(offset, 2);
    return this.#view.getUint16(offset, true);
  }

  u32(offset: number): number {
    this.#require(offset, 4);
    return this.#view.getUint32(offset, true);
  }

  #require(offset: number, length: number): void {
    if (offset + length > this.#view.byteLength) {
      throw malformed(`offset ${offset} is past the end`);
    }
  }
}

function malformed(why: string): AppError {
  return new AppError("input/malformed", `Cannot parse PE image: ${why}`);
}
