import { ByteReader } from "#core/bytes/byte-reader.ts";
import { ByteWriter } from "#core/bytes/byte-writer.ts";
import { AppError } from "#core/errors/app-error.ts";
import type { ImagePart } from "./fat32.ts";

const CLUSTER_BITS = 16;
const CLUSTER = 1 << CLUSTER_BITS;
/** 16-bit reference counts: one block of one cluster counts 32768 clusters. */
const REFCOUNT_ORDER = 4;
const MAGIC = 0x514649fb;
/** Of the version 3 header, in bytes. */
export const QCOW2_HEADER_BYTES = 104;
/** Our images have their level-1 table here, up to the end of its cluster. */
const L1_OFFSET = BigInt(3 * CLUSTER);
const L1_ENTRIES_PER_CLUSTER = CLUSTER / 8;
/** One level-2 table of 64-bit entries fills a cluster and maps 8192 clusters: 512 MiB. */
const BYTES_PER_L1_ENTRY = BigInt(CLUSTER / 8) * BigInt(CLUSTER);

function l1EntriesFor(sizeBytes: bigint): number {
  return Number((sizeBytes + BYTES_PER_L1_ENTRY - 1n) / BYTES_PER_L1_ENTRY);
}

/**
 * An empty qcow2 disk of `sizeBytes` (QEMU docs/interop/qcow2, version 3): header, reference-count table
 * and block, level-1 table; it grows as the guest writes. All parts start at cluster boundaries.
 */
export function emptyQcow2(sizeBytes: bigint): { parts: ImagePart[]; lengthBytes: number } {
  const l1Entries = l1EntriesFor(sizeBytes);
  const l1Clusters = Math.max(1, Math.ceil((l1Entries * 8) / CLUSTER));
  const usedClusters = 3 + l1Clusters;

  const header = new ByteWriter().u32be(MAGIC).u32be(3).u64be(0n).u32be(0).u32be(CLUSTER_BITS);
  header.u64be(sizeBytes).u32be(0).u32be(l1Entries).u64be(L1_OFFSET);
  header.u64be(BigInt(CLUSTER)).u32be(1).u32be(0).u64be(0n);
  header.u64be(0n).u64be(0n).u64be(0n).u32be(REFCOUNT_ORDER).u32be(QCOW2_HEADER_BYTES);

  const table = new ByteWriter().u64be(BigInt(2 * CLUSTER));
  const counts = new ByteWriter();
  for (let i = 0; i < usedClusters; i++) counts.u16be(1);
  return {
    parts: [
      { offset: 0, bytes: header.finish() },
      { offset: CLUSTER, bytes: table.finish() },
      { offset: 2 * CLUSTER, bytes: counts.finish() },
    ],
    lengthBytes: usedClusters * CLUSTER,
  };
}

/**
 * The parts of a header to overwrite so that a disk made by `emptyQcow2` has `sizeBytes`, while nobody uses
 * it. The level-1 table grows within its cluster, whose unused entries are zero. Throws
 * `input/unsupported` for a disk of another make, or for one that would need a larger table.
 */
export function grownQcow2(header: Uint8Array, sizeBytes: bigint): ImagePart[] {
  const r = new ByteReader(header, "qcow2 header");
  const magic = r.u32be("magic");
  const version = r.u32be("version");
  r.bytes("backing file", 12);
  const clusterBits = r.u32be("cluster bits");
  const size = r.u64be("size");
  r.bytes("encryption", 4);
  const l1Entries = r.u32be("level-1 entries");
  const l1Offset = r.u64be("level-1 offset");
  r.bytes("reference counts", 12);
  const snapshots = r.u32be("snapshots");
  const wanted = l1EntriesFor(sizeBytes);
  const ours = magic === MAGIC && version === 3 && clusterBits === CLUSTER_BITS &&
    l1Offset === L1_OFFSET && snapshots === 0 && l1Entries <= L1_ENTRIES_PER_CLUSTER;
  if (!ours || wanted > L1_ENTRIES_PER_CLUSTER) {
    throw new AppError("input/unsupported", "This data disk cannot grow to the size asked for");
  }
  if (sizeBytes < size) throw new AppError("input/malformed", "Cannot shrink disk size");
  return [
    { offset: 24, bytes: new ByteWriter().u64be(sizeBytes).finish() },
    { offset: 36, bytes: new ByteWriter().u32be(wanted).finish() },
  ];
}
