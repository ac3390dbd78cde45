/** A boot sector's size, and where FAT12/16 and FAT32 keep label and type (Microsoft FAT 1.03, 3.1-3.3). */
export const BOOT_SECTOR_BYTES = 512;
const LABEL_BYTES = 11;
const FAT32 = { label: 0x47, type: 0x52 };
const FAT16 = { label: 0x2b, type: 0x36 };

/** The volume label in a FAT boot sector, without its padding; undefined for anything else. */
export function fatLabel(sector: Uint8Array): string | undefined {
  if (sector.length < BOOT_SECTOR_BYTES || sector[510] !== 0x55 || sector[511] !== 0xaa) {
    return undefined;
  }
  const ascii = (at: number, length: number) =>
    String.fromCharCode(...sector.subarray(at, at + length));
  if (ascii(FAT32.type, 5) === "FAT32") return ascii(FAT32.label, LABEL_BYTES).trimEnd();
  if (ascii(FAT16.type, 3) === "FAT") return ascii(FAT16.label, LABEL_BYTES).trimEnd();
  return undefined;
}
