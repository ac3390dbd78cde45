import { AppError } from "#core/errors/app-error.ts";
import { ByteWriter } from "#core/bytes/byte-writer.ts";
import { utf8 } from "#core/bytes/bytes.ts";

/** One file of the volume's root directory. */
export interface FatFile {
  readonly name: string;
  readonly content: Uint8Array;
}

/** Bytes to write at `offset` of an image that is zero everywhere else. */
export interface ImagePart {
  readonly offset: number;
  readonly bytes: Uint8Array;
}

const SECTOR = 512;
const RESERVED_SECTORS = 32;
const FAT_COPIES = 2;
const END_OF_CHAIN = 0x0fffffff;
const ATTRIBUTE_VOLUME = 0x08;
const ATTRIBUTE_ARCHIVE = 0x20;
const ATTRIBUTE_LONG_NAME = 0x0f;
/** 1980-01-01, the earliest date FAT knows: an image depends on its files alone. */
const FAT_EPOCH_DATE = (1 << 5) | 1;

/**
 * A FAT32 volume without a partition table whose root directory holds `files`, as sparse parts of an
 * image of `sizeBytes` (Microsoft FAT specification 1.03; one 512-byte sector a cluster). Names are stored
 * as long names beside generated short ones. Throws `input/too-large` when the files do not fit.
 */
export function fat32Image(
  files: readonly FatFile[],
  options: { readonly label: string; readonly sizeBytes: number; readonly serial: number },
): ImagePart[] {
  const sectors = options.sizeBytes / SECTOR;
  // Each FAT sector holds 128 entries; the specification's own formula, rounded up.
  const fatSectors = Math.ceil(
    (sectors - RESERVED_SECTORS) / (128 + FAT_COPIES),
  );
  const dataStart = RESERVED_SECTORS + FAT_COPIES * fatSectors;
  const clusterCount = sectors - dataStart;
  if (!Number.isInteger(sectors) || clusterCount < 65525) {
    throw new TypeError("A FAT32 volume needs at least 65525 clusters");
  }

  const directory = directoryEntries(files, options.label);
  const lengths = [directory.length, ...files.map((file) => file.content.length)];
  const clusters = lengths.map((length) => Math.ceil(length / SECTOR));
  const used = clusters.reduce((sum, count) => sum + count, 0);
  if (used > clusterCount) {
    throw new AppError("input/too-large", "The files shared with the guest do not fit its volume", {
      fields: { maxBytes: clusterCount * SECTOR },
    });
  }

  const fat = new DataView(new ArrayBuffer(Math.ceil((used + 2) / 128) * SECTOR));
  fat.setUint32(0, 0x0ffffff8, true);
  fat.setUint32(4, END_OF_CHAIN, true);
  const firstClusters: number[] = [];
  let next = 2;
  for (const count of clusters) {
    firstClusters.push(count === 0 ? 0 : next);
    for (let i = 0; i < count; i++, next++) {
      fat.setUint32(next * 4, i === count - 1 ? END_OF_CHAIN : next + 1, true);
    }
  }
  files.forEach((_, i) => directory.setFirstCluster(i, firstClusters[i + 1]!));

  const clusterOffset = (cluster: number) => (dataStart + cluster - 2) * SECTOR;
  const boot = bootSector(options, sectors, fatSectors);
  const info = infoSector(clusterCount - used, next);
  const fatBytes = new Uint8Array(fat.buffer);
  return [
    { offset: 0, bytes: boot },
    { offset: SECTOR, bytes: info },
    { offset: 6 * SECTOR, bytes: boot },
    { offset: 7 * SECTOR, bytes: info },
    ...Array.from({ length: FAT_COPIES }, (_, i) => ({
      offset: (RESERVED_SECTORS + i * fatSectors) * SECTOR,
      bytes: fatBytes,
    })),
    { offset: clusterOffset(firstClusters[0]!), bytes: directory.bytes },
    ...files.flatMap((file, i) =>
      file.content.length === 0
        ? []
        : [{ offset: clusterOffset(firstClusters[i + 1]!), bytes: file.content }]
    ),
  ];
}

function bootSector(
  options: { readonly label: string; readonly serial: number },
  sectors: number,
  fatSectors: number,
): Uint8Array {
  const w = new ByteWriter();
  w.bytes(Uint8Array.of(0xeb, 0x58, 0x90)).utf8("DSTACK  ");
  w.u16le(SECTOR).u8(1).u16le(RESERVED_SECTORS).u8(FAT_COPIES);
  w.u16le(0).u16le(0).u8(0xf8).u16le(0).u16le(32).u16le(8).u32le(0).u32le(sectors);
  w.u32le(fatSectors).u16le(0).u16le(0).u32le(2).u16le(1).u16le(6).zeros(12);
  w.u8(0x80).u8(0).u8(0x29).u32le(options.serial).utf8(volumeLabel(options.label)).utf8("FAT32   ");
  w.zeros(SECTOR - 2 - w.length).u16le(0xaa55);
  return w.finish();
}

function infoSector(freeClusters: number, nextFree: number): Uint8Array {
  const w = new ByteWriter().u32le(0x41615252).zeros(480).u32le(0x61417272);
  w.u32le(freeClusters).u32le(nextFree).zeros(12).u32le(0xaa550000);
  return w.finish();
}

function volumeLabel(label: string): string {
  if (!/^[A-Z0-9_ -]{1,11}$/.test(label)) throw new TypeError("A FAT label is 1 to 11 of A-Z0-9_-");
  return label.padEnd(11);
}

/** Root directory: the label, then each file's long-name entries and its short entry. */
function directoryEntries(files: readonly FatFile[], label: string) {
  const w = new ByteWriter();
  shortEntry(w, volumeLabel(label), ATTRIBUTE_VOLUME, 0);
  const entryOffsets: number[] = [];
  const seen = new Set<string>();
  files.forEach((file, i) => {
    const folded = file.name.toUpperCase();
    // deno-lint-ignore no-control-regex
    if (!/^[^\x00-\x1f"*/:<>?\\|\x7f]{1,255}$/.test(file.name) || /[. ]$/.test(file.name)) {
      throw new AppError("input/malformed", "A shared file's name is not allowed on FAT");
    }
    if (seen.has(folded)) {
      throw new AppError("input/malformed", "Two shared files have names FAT cannot tell apart");
    }
    seen.add(folded);
    const short = `FILE${String(i + 1).padStart(4, "0")}   `;
    longEntries(w, file.name, shortChecksum(short));
    entryOffsets.push(w.length);
    shortEntry(w, short, ATTRIBUTE_ARCHIVE, file.content.length);
  });
  const bytes = w.finish();
  const view = new DataView(bytes.buffer);
  return {
    bytes,
    length: bytes.length,
    setFirstCluster(file: number, cluster: number) {
      const at = entryOffsets[file]!;
      view.setUint16(at + 20, cluster >>> 16, true);
      view.setUint16(at + 26, cluster & 0xffff, true);
    },
  };
}

function shortEntry(w: ByteWriter, name: string, attribute: number, size: number): void {
  w.bytes(utf8(name)).u8(attribute).u8(0).u8(0).u16le(0).u16le(FAT_EPOCH_DATE).u16le(
    FAT_EPOCH_DATE,
  );
  w.u16le(0).u16le(0).u16le(FAT_EPOCH_DATE).u16le(0).u32le(size);
}

/** 13 UTF-16 units an entry, last part first; a terminating zero and 0xFFFF fill the rest. */
function longEntries(w: ByteWriter, name: string, checksum: number): void {
  const units = Array.from({ length: name.length }, (_, i) => name.charCodeAt(i));
  if (units.length % 13 !== 0) units.push(0);
  while (units.length % 13 !== 0) units.push(0xffff);
  const count = units.length / 13;
  for (let part = count; part >= 1; part--) {
    const own = units.slice((part - 1) * 13, part * 13);
    w.u8(part === count ? part | 0x40 : part);
    for (const unit of own.slice(0, 5)) w.u16le(unit);
    w.u8(ATTRIBUTE_LONG_NAME).u8(0).u8(checksum);
    for (const unit of own.slice(5, 11)) w.u16le(unit);
    w.u16le(0);
    for (const unit of own.slice(11, 13)) w.u16le(unit);
  }
}

function shortChecksum(name: string): number {
  let sum = 0;
  for (const byte of utf8(name)) sum = (((sum & 1) << 7) + (sum >>> 1) + byte) & 0xff;
  return sum;
}
