import assert from "node:assert/strict";
import { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { gzipSync, zstdCompressSync } from "node:zlib";
import fc from "fast-check";
import { compressedKernel } from "../qemu/compressed-kernel.ts";
import { unpackedKernel } from "./unpacked-kernel.ts";

/** ELF magic, and a PT_NOTE entry as arch/x86/kernel/head_64.S leaves it. */
const note = Buffer.from("0400000004000000120000005865 6e0000000001".replaceAll(" ", ""), "hex");
const vmlinux = Buffer.concat([Buffer.from("\x7fELF", "latin1"), Buffer.alloc(5000, 7), note]);

/** A file with the setup header of boot protocol 2.15 and `payload` behind two setup sectors. */
function bzImage(payload: Uint8Array, change: (header: Buffer) => void = () => {}): Buffer {
  const header = Buffer.alloc(3 * 512);
  header[0x1f1] = 2;
  header.write("HdrS", 0x202, "latin1");
  header.writeUInt16LE(0x20f, 0x206);
  header.writeUInt32LE(100, 0x248);
  header.writeUInt32LE(payload.length + 4, 0x24c);
  change(header);
  const size = Buffer.alloc(4);
  size.writeUInt32LE(vmlinux.length);
  return Buffer.concat([header, Buffer.alloc(100, 1), payload, size, Buffer.alloc(700)]);
}

async function unpack(
  file: Uint8Array,
): Promise<{ path: string; content: Buffer; kept: string[] }> {
  const dir = mkdtempSync(join(tmpdir(), "kernel-"));
  try {
    const from = join(dir, "bzImage");
    writeFileSync(from, file);
    const path = await unpackedKernel(from, join(dir, "kernels"));
    assert.equal(await unpackedKernel(from, join(dir, "kernels")), path);
    const kept = path === from ? [] : readdirSync(join(dir, "kernels"));
    return { path: path === from ? "as it is" : "unpacked", content: readFileSync(path), kept };
  } finally {
    rmSync(dir, { recursive: true });
  }
}

test("a kernel packed with zstd that knows PVH is unpacked, once", async () => {
  const { path, content, kept } = await unpack(bzImage(zstdCompressSync(vmlinux)));
  assert.equal(path, "unpacked");
  assert.deepEqual(content, vmlinux);
  assert.equal(kept.length, 1);
});

for (
  const [what, file] of [
    ["no kernel", Buffer.alloc(9000)],
    ["a short file", Buffer.alloc(10)],
    ["another compression", bzImage(gzipSync(vmlinux))],
    [
      "an older boot protocol",
      bzImage(zstdCompressSync(vmlinux), (h) => h.writeUInt16LE(0x207, 0x206)),
    ],
    [
      "a payload past the end",
      bzImage(zstdCompressSync(vmlinux), (h) => h.writeUInt32LE(1 << 30, 0x24c)),
    ],
    ["no PVH entry", bzImage(zstdCompressSync(vmlinux.subarray(0, 5000)))],
  ] as const
) {
  test(`${what} boots as it is`, async () => {
    assert.deepEqual(await unpack(file), { path: "as it is", content: file, kept: [] });
  });
}

test("any bytes either hold a frame or do not", () => {
  fc.assert(fc.property(fc.uint8Array({ minLength: 0x250, maxLength: 2048 }), (bytes) => {
    bytes.set(new TextEncoder().encode("HdrS"), 0x202);
    const frame = compressedKernel(bytes);
    assert.ok(frame === undefined || frame.length <= bytes.length);
  }));
});
