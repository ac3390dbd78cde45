import { createHash } from "node:crypto";
import { access, mkdir, readFile } from "node:fs/promises";
import { join } from "node:path";
import { promisify } from "node:util";
import { zstdDecompress } from "node:zlib";
import { writeFileAtomic } from "#adapters/files.ts";
import { bootsDirectly, compressedKernel } from "../qemu/compressed-kernel.ts";

const MAX_KERNEL_BYTES = 512 * 1024 * 1024;
const unzstd = promisify(zstdDecompress);

/**
 * The same kernel unpacked below `directory`, for QEMU to start at its PVH entry: unpacking itself takes an
 * emulated processor two seconds. `path` itself where that cannot be.
 */
export async function unpackedKernel(path: string, directory: string): Promise<string> {
  const bzImage = await readFile(path);
  const unpacked = join(directory, createHash("sha256").update(bzImage).digest("hex"));
  if (await access(unpacked).then(() => true, () => false)) return unpacked;
  const frame = compressedKernel(bzImage);
  if (frame === undefined) return path;
  const vmlinux = await unzstd(frame, { maxOutputLength: MAX_KERNEL_BYTES });
  if (!bootsDirectly(vmlinux)) return path;
  await mkdir(directory, { recursive: true, mode: 0o700 });
  await writeFileAtomic(unpacked, vmlinux);
  return unpacked;
}
