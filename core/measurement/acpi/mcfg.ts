import { ByteWriter } from "../../bytes/byte-writer.ts";
import { encodeTable } from "./acpi-table.ts";
import { CHIPSET } from "./machine.ts";

/** Where PCI Express configuration space is mapped, 1 MiB a bus. */
export function encodeMcfg(): Uint8Array {
  const { base, size } = CHIPSET.mmconfig;
  const lastBus = size / 2 ** 20 - 1;
  const w = new ByteWriter().zeros(8);
  w.u64le(BigInt(base)).u16le(0).u8(0).u8(lastBus).zeros(4);
  return encodeTable("MCFG", 1, w.finish());
}
