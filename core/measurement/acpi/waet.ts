import { ByteWriter } from "../../bytes/byte-writer.ts";
import { encodeTable } from "./acpi-table.ts";

const PM_TIMER_IS_GOOD = 2;

/** Windows ACPI Emulated devices Table. */
export function encodeWaet(): Uint8Array {
  return encodeTable("WAET", 1, new ByteWriter().u32le(PM_TIMER_IS_GOOD).finish());
}
