import { ByteWriter } from "../../bytes/byte-writer.ts";
import { encodeTable } from "./acpi-table.ts";

/** Root System Description Table. Offsets are those in the blob; firmware relocates them. */
export function encodeRsdt(offsets: readonly number[]): Uint8Array {
  const w = new ByteWriter();
  for (const offset of offsets) w.u32le(offset);
  return encodeTable("RSDT", 1, w.finish());
}
