import { ByteWriter } from "#core/bytes/byte-writer.ts";

const SECTOR = 512;
const MEBIBYTE = 1024 * 1024;
const ENTRY_COUNT = 128;
const ENTRY_LENGTH = 128;
const ENTRY_SECTORS = (ENTRY_COUNT * ENTRY_LENGTH) / SECTOR;
const DISK_GUID = "d5acc000-0000-4000-8000-000000000000";
const PARTITION_GUID = "d5acc000-0000-4000-8000-000000000001";
const LINUX_FILESYSTEM = "0fc63daf-8483-4772-8e79-3d69d8477de4";
const PARTITION_NAME = "dstack-rootfs";

/** What surrounds a file system of `length` bytes to make it a GPT disk (spec/os.md 1.6). */
export interface GptFrame {
  /** Bytes 0 up to the partition, which starts at 1 MiB. */
  readonly before: Uint8Array;
  /** Bytes after the file system to the end of the disk. */
  readonly after: Uint8Array;
}

/**
 * A disk with one partition for a file system of `length` bytes: from 1 MiB, rounded up to whole
 * mebibytes, one more behind it for the backup table (UEFI 2.10, section 5.3).
 */
export function gptFrame(length: number): GptFrame {
  const partitionBytes = Math.ceil(length / MEBIBYTE) * MEBIBYTE;
  const sectors = (MEBIBYTE + partitionBytes + MEBIBYTE) / SECTOR;
  const first = MEBIBYTE / SECTOR;
  const last = first + partitionBytes / SECTOR - 1;
  const entries = partitionEntries(first, last);
  const entriesCrc = crc32(entries);

  const before = new Uint8Array(MEBIBYTE);
  before.set(protectiveMbr(sectors));
  before.set(header(sectors, 1, sectors - 1, 2, entriesCrc), SECTOR);
  before.set(entries, 2 * SECTOR);

  const after = new Uint8Array(partitionBytes - length + MEBIBYTE);
  const backup = header(sectors, sectors - 1, 1, sectors - 1 - ENTRY_SECTORS, entriesCrc);
  after.set(entries, after.length - SECTOR - entries.length);
  after.set(backup, after.length - SECTOR);
  return { before, after };
}

function header(
  sectors: number,
  myLba: number,
  alternateLba: number,
  entriesLba: number,
  entriesCrc: number,
): Uint8Array {
  const firstUsable = 2 + ENTRY_SECTORS;
  const encode = (headerCrc: number) =>
    new ByteWriter()
      .utf8("EFI PART")
      .u32le(0x00010000)
      .u32le(92)
      .u32le(headerCrc)
      .u32le(0)
      .u64le(BigInt(myLba))
      .u64le(BigInt(alternateLba))
      .u64le(BigInt(firstUsable))
      .u64le(BigInt(sectors - 1 - ENTRY_SECTORS - 1))
      .bytes(guidBytes(DISK_GUID))
      .u64le(BigInt(entriesLba))
      .u32le(ENTRY_COUNT)
      .u32le(ENTRY_LENGTH)
      .u32le(entriesCrc)
      .finish();
  return encode(crc32(encode(0)));
}

function partitionEntries(first: number, last: number): Uint8Array {
  const entries = new Uint8Array(ENTRY_COUNT * ENTRY_LENGTH);
  const entry = new ByteWriter()
    .bytes(guidBytes(LINUX_FILESYSTEM))
    .bytes(guidBytes(PARTITION_GUID))
    .u64le(BigInt(first))
    .u64le(BigInt(last))
    .u64le(0n);
  for (const char of PARTITION_NAME) entry.u16le(char.charCodeAt(0));
  entries.set(entry.finish());
  return entries;
}

/** One partition of type EE over the whole disk, so that old tools leave it alone. */
function protectiveMbr(sectors: number): Uint8Array {
  const mbr = new ByteWriter().zeros(446)
    .u8(0).bytes(Uint8Array.of(0, 2, 0)) // not bootable; CHS 0/0/2
    .u8(0xee).bytes(Uint8Array.of(0xff, 0xff, 0xff))
    .u32le(1)
    .u32le(Math.min(sectors - 1, 0xffffffff))
    .zeros(48)
    .u16be(0x55aa);
  return mbr.finish();
}

/** GUIDs are stored mixed-endian (UEFI 2.10, appendix A). */
function guidBytes(guid: string): Uint8Array {
  const hex = guid.replaceAll("-", "");
  const order = [3, 2, 1, 0, 5, 4, 7, 6, 8, 9, 10, 11, 12, 13, 14, 15];
  return Uint8Array.from(order, (at) => parseInt(hex.slice(at * 2, at * 2 + 2), 16));
}

/** CRC-32 as in IEEE 802.3, reflected, which GPT uses. */
function crc32(bytes: Uint8Array): number {
  let crc = 0xffffffff;
  for (const byte of bytes) {
    crc ^= byte;
    for (let bit = 0; bit < 8; bit++) crc = (crc >>> 1) ^ (crc & 1 ? 0xedb88320 : 0);
  }
  return (crc ^ 0xffffffff) >>> 0;
}
