import type { DstackdConfig } from "../config.ts";
import type { SmbiosStrings } from "../qemu/argv.ts";

type Product = DstackdConfig["cvm"]["product"];

/** SMBIOS structure type, QEMU's key, our setting (spec/vmm.md section 7.1). */
const FIELDS: readonly (readonly [number, string, keyof Product])[] = [
  [0, "vendor", "bios_vendor"],
  [0, "version", "bios_version"],
  [0, "date", "bios_date"],
  [0, "release", "bios_release"],
  [1, "manufacturer", "sys_vendor"],
  [1, "product", "product_name"],
  [1, "version", "product_version"],
  [1, "serial", "product_serial"],
  [1, "uuid", "product_uuid"],
  [1, "family", "product_family"],
  [1, "sku", "product_sku"],
  [2, "manufacturer", "board_vendor"],
  [2, "product", "board_name"],
  [2, "version", "board_version"],
  [2, "serial", "board_serial"],
  [2, "asset", "board_asset_tag"],
  [3, "manufacturer", "chassis_vendor"],
  [3, "version", "chassis_version"],
  [3, "serial", "chassis_serial"],
  [3, "asset", "chassis_asset_tag"],
];

export function smbiosStrings(product: Product): SmbiosStrings {
  const strings = new Map<number, Map<string, string>>();
  for (const [type, key, setting] of FIELDS) {
    const value = product[setting];
    if (value === "") continue;
    if (!strings.has(type)) strings.set(type, new Map());
    strings.get(type)!.set(key, value);
  }
  return strings;
}
