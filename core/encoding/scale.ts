import type { ByteReader } from "../bytes/byte-reader.ts";
import type { ByteWriter } from "../bytes/byte-writer.ts";
import { utf8 } from "../bytes/bytes.ts";

/**
 * SCALE, the codec of dstack's V0 attestations and CSRs (docs.polkadot.com, "SCALE codec"). Only
 * canonical encodings are read: the compact form must be the shortest one. Lengths come from the
 * wire, so every run and list names its maximum.
 */

/** Compact unsigned integer, read up to 2^53 - 1. */
export function readCompact(r: ByteReader, field: string): number {
  const first = r.u8(field);
  const mode = first & 3;
  if (mode === 0) return first >>> 2;
  if (mode === 1) return atLeast(r, field, 1 << 6, (first | r.u8(field) << 8) >>> 2);
  if (mode === 2) {
    const high = r.bytes(field, 3);
    const value = (first | high[0]! << 8 | high[1]! << 16 | high[2]! << 24) >>> 2;
    return atLeast(r, field, 1 << 14, value);
  }
  const length = (first >>> 2) + 4;
  if (length > 8) throw r.malformed(field, `is a compact integer of ${length} bytes`);
  const bytes = r.bytes(field, length);
  const value = bytes.reduceRight((sum, byte) => sum * 256 + byte, 0);
  if (!Number.isSafeInteger(value)) throw r.malformed(field, "exceeds 2^53");
  if (bytes[length - 1] === 0) throw r.malformed(field, "is not in its shortest form");
  return atLeast(r, field, 2 ** 30, value);
}

export function writeCompact(w: ByteWriter, value: number): void {
  if (!Number.isSafeInteger(value) || value < 0) throw new TypeError(`Not a length: ${value}`);
  if (value < 1 << 6) w.u8(value << 2);
  else if (value < 1 << 14) w.u16le(value << 2 | 1);
  else if (value < 2 ** 30) w.u32le((value << 2 | 2) >>> 0);
  else {
    const bytes: number[] = [];
    for (let left = value; left > 0; left = Math.floor(left / 256)) bytes.push(left % 256);
    w.u8((bytes.length - 4) << 2 | 3).bytes(Uint8Array.from(bytes));
  }
}

/** Vec<u8>; `max` in bytes. */
export function readScaleBytes(r: ByteReader, field: string, max: number): Uint8Array {
  return r.bounded(field, readCompact(r, `${field} length`), max);
}

export function writeScaleBytes(w: ByteWriter, value: Uint8Array): void {
  writeCompact(w, value.length);
  w.bytes(value);
}

/** str; `max` in UTF-8 bytes. */
export function readScaleString(r: ByteReader, field: string, max: number): string {
  const length = readCompact(r, `${field} length`);
  if (length > max) throw r.malformed(field, `${length} bytes, at most ${max} are allowed`);
  return r.utf8(field, length);
}

export function writeScaleString(w: ByteWriter, value: string): void {
  writeScaleBytes(w, utf8(value));
}

/** Vec<T>; `max` in items. Items are read one by one, so a false count allocates nothing. */
export function readScaleVec<T>(
  r: ByteReader,
  field: string,
  max: number,
  readItem: (r: ByteReader, index: number) => T,
): T[] {
  const count = readCompact(r, `${field} count`);
  if (count > max) throw r.malformed(field, `${count} items, at most ${max} are allowed`);
  const items: T[] = [];
  for (let i = 0; i < count; i++) items.push(readItem(r, i));
  return items;
}

export function writeScaleVec<T>(
  w: ByteWriter,
  items: readonly T[],
  writeItem: (w: ByteWriter, item: T) => void,
): void {
  writeCompact(w, items.length);
  for (const item of items) writeItem(w, item);
}

/** Option<T>. `Option<bool>` has a form of its own in SCALE; dstack uses none. */
export function readScaleOption<T>(
  r: ByteReader,
  field: string,
  readSome: (r: ByteReader) => T,
): T | undefined {
  return readScaleBool(r, field) ? readSome(r) : undefined;
}

export function writeScaleOption<T>(
  w: ByteWriter,
  value: T | undefined,
  writeSome: (w: ByteWriter, value: T) => void,
): void {
  writeScaleBool(w, value !== undefined);
  if (value !== undefined) writeSome(w, value);
}

export function readScaleBool(r: ByteReader, field: string): boolean {
  const byte = r.u8(field);
  if (byte > 1) throw r.malformed(field, `is ${byte}, expected 0 or 1`);
  return byte === 1;
}

export function writeScaleBool(w: ByteWriter, value: boolean): void {
  w.u8(value ? 1 : 0);
}

function atLeast(r: ByteReader, field: string, min: number, value: number): number {
  if (value < min) throw r.malformed(field, "is not in its shortest form");
  return value;
}
