import { sha384 } from "@noble/hashes/sha2.js";
import { ByteReader } from "../bytes/byte-reader.ts";
import { ByteWriter } from "../bytes/byte-writer.ts";
import { AppError } from "../errors/app-error.ts";

const PAGE = 4096;
const MAX_RANGES = 64;

/** From this memory size on QEMU's q35 moves RAM above 2 GiB to 4 GiB and up. */
export const HIGH_MEMORY_THRESHOLD = 0xb000_0000;
const LOW_MEMORY_TOP = 0x8000_0000;
const HIGH_MEMORY_BASE = 0x1_0000_0000;

/** A run of guest memory: `start` in bytes, whole pages. */
export interface PageRange {
  readonly start: number;
  readonly pages: number;
}

/** What TDVF accepts before it builds the hand-off block list: its TD_HOB and TEMP_MEM sections. */
export interface AcceptedMemory {
  /** Guest physical address of the list itself. */
  readonly hobAddress: number;
  /** Sorted by start, not merged, not overlapping. */
  readonly ranges: readonly PageRange[];
}

/** The compact witness of spec/attestation.md 5.4: LEB128 integers counted in pages. */
export function encodeTdHobWitness(accepted: AcceptedMemory): Uint8Array {
  checkRanges(accepted.ranges);
  const basePage = pageOf(accepted.ranges[0]!.start);
  const hobPage = pageOf(accepted.hobAddress);
  if (hobPage < basePage) throw invalid("the TD HOB lies below the first accepted range");
  const w = new ByteWriter();
  const integers = [basePage, hobPage - basePage, accepted.ranges.length];
  for (const { start, pages } of accepted.ranges) integers.push(pageOf(start) - basePage, pages);
  for (const integer of integers) writeLeb128(w, integer);
  return w.finish();
}

/** Throws `input/malformed`. */
export function parseTdHobWitness(witness: Uint8Array): AcceptedMemory {
  const r = new ByteReader(witness, "TD HOB witness");
  const basePage = readLeb128(r, "base_page");
  const hobPage = basePage + readLeb128(r, "td_hob_page_delta");
  const count = readLeb128(r, "range_count");
  if (count === 0 || count > MAX_RANGES) throw r.malformed("range_count", `is ${count}`);
  const ranges: PageRange[] = [];
  for (let i = 0; i < count; i++) {
    const start = (basePage + readLeb128(r, "start_delta")) * PAGE;
    ranges.push({ start, pages: readLeb128(r, "page_count") });
  }
  r.end();
  checkRanges(ranges);
  return { hobAddress: hobPage * PAGE, ranges };
}

/** The first event of RTMR0 for a guest of `memoryBytes`. 48 bytes. */
export function tdHobDigest(accepted: AcceptedMemory, memoryBytes: number): Uint8Array {
  return sha384(encodeTdHob(accepted, memoryBytes));
}

const RESOURCE = { accepted: 0, unaccepted: 7 } as const;
const PHIT_LENGTH = 56;
const RESOURCE_LENGTH = 48;
const END_LENGTH = 8;

/** The list QEMU hands to TDVF: PHIT, then one resource descriptor per range (PI 1.8 volume 3, 5). */
export function encodeTdHob(accepted: AcceptedMemory, memoryBytes: number): Uint8Array {
  const resources = resourceRanges(accepted.ranges, memoryBytes);
  const length = PHIT_LENGTH + resources.length * RESOURCE_LENGTH;
  const w = new ByteWriter();
  w.u16le(1).u16le(PHIT_LENGTH).u32le(0); // EFI_HOB_TYPE_HANDOFF
  w.u32le(9).u32le(0).zeros(32); // version, boot mode, four memory bounds
  w.u64le(BigInt(accepted.hobAddress + length + END_LENGTH)); // EfiEndOfHobList
  for (const { type, start, end } of resources) {
    w.u16le(3).u16le(RESOURCE_LENGTH).u32le(0).zeros(16); // EFI_HOB_TYPE_RESOURCE_DESCRIPTOR, no owner
    w.u32le(type).u32le(7).u64le(BigInt(start)).u64le(BigInt(end - start));
  }
  return w.finish();
}

interface ResourceRange {
  readonly type: number;
  readonly start: number;
  readonly end: number;
}

function resourceRanges(accepted: readonly PageRange[], memoryBytes: number): ResourceRange[] {
  if (!Number.isSafeInteger(memoryBytes) || memoryBytes % PAGE !== 0) {
    throw invalid(`${memoryBytes} bytes of memory are not whole pages`);
  }
  checkRanges(accepted);
  const resources: ResourceRange[] = [];
  let end = 0;
  for (const { start, pages } of accepted) {
    if (start > end) resources.push({ type: RESOURCE.unaccepted, start: end, end: start });
    end = start + pages * PAGE;
    resources.push({ type: RESOURCE.accepted, start, end });
  }
  if (end >= memoryBytes) throw invalid("the accepted ranges do not fit into the memory");
  if (memoryBytes < HIGH_MEMORY_THRESHOLD) {
    resources.push({ type: RESOURCE.unaccepted, start: end, end: memoryBytes });
  } else {
    if (end < LOW_MEMORY_TOP) {
      resources.push({ type: RESOURCE.unaccepted, start: end, end: LOW_MEMORY_TOP });
    }
    resources.push({
      type: RESOURCE.unaccepted,
      start: HIGH_MEMORY_BASE,
      end: HIGH_MEMORY_BASE + memoryBytes - LOW_MEMORY_TOP,
    });
  }
  return resources;
}

function checkRanges(ranges: readonly PageRange[]): void {
  if (ranges.length === 0) throw invalid("no range is accepted");
  let end = 0;
  for (const { start, pages } of ranges) {
    if (pages === 0) throw invalid("a range is empty");
    if (start < end) throw invalid("the ranges overlap or are not sorted");
    end = start + pages * PAGE;
    if (end > HIGH_MEMORY_BASE) throw invalid("a range ends above 4 GiB");
  }
}

function pageOf(address: number): number {
  if (address % PAGE !== 0) throw invalid(`address ${address} is not page aligned`);
  return address / PAGE;
}

function writeLeb128(w: ByteWriter, value: number): void {
  while (value >= 0x80) {
    w.u8((value & 0x7f) | 0x80);
    value = Math.floor(value / 0x80);
  }
  w.u8(value);
}

/** Up to 2^28 - 1: pages of an address below 4 GiB take 20 bits. */
function readLeb128(r: ByteReader, field: string): number {
  let value = 0;
  for (let shift = 0; shift < 28; shift += 7) {
    const byte = r.u8(field);
    value |= (byte & 0x7f) << shift;
    if ((byte & 0x80) === 0) {
      if (byte === 0 && shift > 0) throw r.malformed(field, "is not in its shortest form");
      return value;
    }
  }
  throw r.malformed(field, "is longer than 4 bytes");
}

function invalid(why: string): AppError {
  return new AppError("input/malformed", `Cannot build TD HOB: ${why}`);
}
