import { ByteWriter } from "#core/bytes/byte-writer.ts";
import type { ImagePart } from "./fat32.ts";

const CLUSTER_BITS = 16;
const CLUSTER = 1 << CLUSTER_BITS;
/** 16-bit reference counts: one block of one cluster counts 32768 clusters. */
const REFCOUNT_ORDER = 4;

/**
 * An empty qcow2 disk of `sizeBytes` (QEMU docs/interop/qcow2, version 3): header, reference-count table
 * and block, level-1 table; it grows as the guest writes. All parts start at cluster boundaries.
 */
export function emptyQcow2(sizeBytes: bigint): { parts: ImagePart[]; lengthBytes: number } {
  // One level-2 table of 64-bit entries fills a cluster and maps 8192 clusters: 512 MiB.
  const bytesPerL1Entry = BigInt(CLUSTER / 8) * BigInt(CLUSTER);
  const l1Entries = Number((sizeBytes + bytesPerL1Entry - 1n) / bytesPerL1Entry);
  const l1Clusters = Math.max(1, Math.ceil((l1Entries * 8) / CLUSTER));
  const usedClusters = 3 + l1Clusters;

  const header = new ByteWriter().u32be(0x514649fb).u32be(3).u64be(0n).u32be(0).u32be(CLUSTER_BITS);
  header.u64be(sizeBytes).u32be(0).u32be(l1Entries).u64be(BigInt(3 * CLUSTER));
  header.u64be(BigInt(CLUSTER)).u32be(1).u32be(0).u64be(0n);
  header.u64be(0n).u64be(0n).u64be(0n).u32be(REFCOUNT_ORDER).u32be(104);

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
