import { ByteWriter } from "../../bytes/byte-writer.ts";
import { concatBytes } from "../../bytes/bytes.ts";
import { type Aml, buffer } from "./aml.ts";

/** Resource descriptors (ACPI specification 6.5, section 6.4). */
export type Resource = Uint8Array;

const END_TAG = Uint8Array.of(0x79, 0); // its checksum 0: not computed

export function resources(...descriptors: Resource[]): Aml {
  return buffer(concatBytes(...descriptors, END_TAG));
}

/** Ports at a fixed base, decoded with 16 bits. */
export function ioPorts(base: number, length: number, alignment = 1): Resource {
  return new ByteWriter().u8(0x47).u8(1).u16le(base).u16le(base).u8(alignment).u8(length).finish();
}

/** An ISA interrupt. Without flags it is edge triggered and active high. */
export function isaIrq(irq: number, flags?: number): Resource {
  const w = new ByteWriter().u8(flags === undefined ? 0x22 : 0x23).u16le(1 << irq);
  return flags === undefined ? w.finish() : w.u8(flags).finish();
}

/** Level triggered, active low, shared. */
export const ISA_IRQ_SHARED_LEVEL_LOW = 0x18;

/** An active-high, shared interrupt this device consumes; one of `gsis`. */
export function interrupt(trigger: "edge" | "level", gsis: readonly number[]): Resource {
  const flags = 0x09 | (trigger === "edge" ? 0x02 : 0);
  const w = new ByteWriter().u8(0x89).u16le(2 + 4 * gsis.length).u8(flags).u8(gsis.length);
  for (const gsi of gsis) w.u32le(gsi);
  return w.finish();
}

const TYPE = { memory: 0, io: 1, bus: 2 } as const;
/** Minimum and maximum fixed, positive decode. */
const FIXED = 0x0c;
const MEMORY_FLAGS = { cacheable: 0x03, nonCacheable: 0x01 } as const;
const ENTIRE_IO_RANGE = 0x03;

/** Bus numbers from `first` to `last`. */
export function busNumbers(first: number, last: number): Resource {
  return wordAddress(TYPE.bus, 0, first, last);
}

export function ioRange(first: number, last: number): Resource {
  return wordAddress(TYPE.io, ENTIRE_IO_RANGE, first, last);
}

function wordAddress(type: number, flags: number, first: number, last: number): Resource {
  return new ByteWriter().u8(0x88).u16le(13).u8(type).u8(FIXED).u8(flags)
    .u16le(0).u16le(first).u16le(last).u16le(0).u16le(last - first + 1).finish();
}

/** Writable memory below 4 GiB. */
export function memory32(
  first: number,
  last: number,
  caching: keyof typeof MEMORY_FLAGS,
): Resource {
  return new ByteWriter().u8(0x87).u16le(23).u8(TYPE.memory).u8(FIXED).u8(MEMORY_FLAGS[caching])
    .u32le(0).u32le(first).u32le(last).u32le(0).u32le(last - first + 1).finish();
}

/** Writable memory anywhere. */
export function memory64(
  first: number,
  last: number,
  caching: keyof typeof MEMORY_FLAGS,
): Resource {
  return new ByteWriter().u8(0x8a).u16le(43).u8(TYPE.memory).u8(FIXED).u8(MEMORY_FLAGS[caching])
    .u64le(0n).u64le(BigInt(first)).u64le(BigInt(last)).u64le(0n)
    .u64le(BigInt(last - first + 1)).finish();
}
