import { ByteWriter } from "../../bytes/byte-writer.ts";

/** Firmware ACPI Control Structure: without the common header or a checksum. */
export function encodeFacs(): Uint8Array {
  return new ByteWriter().utf8("FACS").u32le(64).zeros(56).finish();
}
