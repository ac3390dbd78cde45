import { ByteWriter } from "../../bytes/byte-writer.ts";
import { encodeTable } from "./acpi-table.ts";
import { type AcpiMachine, CHIPSET, MAX_XAPIC_ID, memoryBelow4g } from "./machine.ts";

const ENABLED = 1;
const LOW_MEMORY_END = 0xa_0000;
const HIGH_MEMORY_START = 0x10_0000;
/** QEMU fills up to two entries more than nodes. */
const MIN_MEMORY_ENTRIES = 3;

/** System Resource Affinity Table of one node that holds every processor and all memory. */
export function encodeSrat(machine: AcpiMachine): Uint8Array {
  const w = new ByteWriter().u32le(1).zeros(8);
  for (let i = 0; i < machine.cpuCount; i++) writeProcessor(w, i);
  const below4g = memoryBelow4g(machine.memoryBytes);
  const ranges = [
    [0, LOW_MEMORY_END],
    [HIGH_MEMORY_START, below4g - HIGH_MEMORY_START],
    [CHIPSET.above4g, machine.memoryBytes - below4g],
  ].filter(([, length]) => length! > 0);
  for (const [base, length] of ranges) writeMemory(w, base!, length!, ENABLED);
  for (let i = ranges.length; i < MIN_MEMORY_ENTRIES; i++) writeMemory(w, 0, 0, 0);
  return encodeTable("SRAT", 1, w.finish());
}

function writeProcessor(w: ByteWriter, index: number): void {
  if (index <= MAX_XAPIC_ID) {
    w.u8(0).u8(16).u8(0).u8(index).u32le(ENABLED).zeros(8);
  } else {
    w.u8(2).u8(24).u16le(0).u32le(0).u32le(index).u32le(ENABLED).zeros(8);
  }
}

function writeMemory(w: ByteWriter, base: number, length: number, flags: number): void {
  w.u8(1).u8(40).u32le(0).u16le(0).u64le(BigInt(base)).u64le(BigInt(length)).u32le(0)
    .u32le(flags).zeros(8);
}
