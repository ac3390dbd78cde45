import assert from "node:assert/strict";
import { test } from "node:test";
import { ByteWriter } from "../bytes/byte-writer.ts";
import { toHex } from "../bytes/bytes.ts";
import { AppError } from "../errors/app-error.ts";
import { authenticodeSha256, authenticodeSha384 } from "./authenticode.ts";
import { sha256Of, sha384Of } from "./digest.ts";
import { normalizeKernelHeader, patchKernel } from "./kernel-patch.ts";
import { measuredCmdline } from "./measure-image.ts";

const GIB = 2 ** 30;
const OPTIONAL_HEADER = 0x58;
const CERTIFICATE_DIRECTORY = OPTIONAL_HEADER + 112 + 4 * 8;

/** A PE image that also is a Linux boot image: sections out of order, four bytes after the last one. */
function kernel(): Uint8Array {
  const image = Uint8Array.from({ length: 0x3004 }, (_, i) => i * 5 + 1 + (i >> 8));
  const put = (at: number, build: (w: ByteWriter) => void) => {
    const w = new ByteWriter();
    build(w);
    image.set(w.finish(), at);
  };
  put(0, (w) => w.utf8("MZ"));
  put(0x3c, (w) => w.u32le(0x40));
  put(0x40, (w) => w.utf8("PE\0\0").u16le(0x8664).u16le(2).zeros(12).u16le(0xa0).u16le(0x206));
  put(OPTIONAL_HEADER, (w) => w.u16le(0x20b));
  put(OPTIONAL_HEADER + 32, (w) => w.u32le(0x1000).u32le(0x200));
  put(OPTIONAL_HEADER + 60, (w) => w.u32le(0x1000));
  put(OPTIONAL_HEADER + 108, (w) => w.u32le(6).zeros(48));
  const section = (i: number, name: string, address: number, start: number) =>
    put(
      OPTIONAL_HEADER + 0xa0 + i * 40,
      (w) =>
        w.utf8(name).zeros(6).u32le(0x1000).u32le(address).u32le(0x1000).u32le(start).zeros(12)
          .u32le(0x60000020),
    );
  section(0, ".b", 0x2000, 0x2000);
  section(1, ".a", 0x1000, 0x1000);
  put(0x1f1, (w) => w.u8(4));
  put(0x202, (w) => w.utf8("HdrS").u16le(0x20f));
  put(0x210, (w) => w.u8(0).u8(1));
  put(0x218, (w) => w.zeros(8));
  put(0x224, (w) => w.u16le(0x50a0));
  put(0x228, (w) => w.u32le(0).u32le(0x7fffffff));
  put(0x236, (w) => w.u16le(0x7f));
  return image;
}

// Expected digests: a separate script written from Microsoft's Authenticode description, which agrees
// with pesign 0.112 on Debian's kernel, as shipped and with four bytes appended.
test("Authenticode skips checksum and certificate directory, sorts sections and pads", async () => {
  const image = kernel();
  assert.equal(
    toHex(await sha256Of(image)),
    "b6103d42d9d04fcbca0834cd4d37ed55c8e05f561497b473652108d84381d730",
  );
  const unsigned = "88b26798c7ce6f8700d979370413f406373fb975df9a0a5540f5f60705c52bab";
  assert.equal(toHex(await authenticodeSha256(image)), unsigned);
  assert.equal(
    toHex(await authenticodeSha384(image)),
    "276df39766b66789979efa8091e6aba6b00a0e4ec835c24946ba772b24a640513fd52b69f1f8755d959f85bf4f5a91fc",
  );
  const signed = new Uint8Array(image.length + 4 + 16).fill(0xcc);
  signed.set(image);
  signed.set(new Uint8Array(4), image.length);
  signed.set(new ByteWriter().u32le(image.length + 4).u32le(16).finish(), CERTIFICATE_DIRECTORY);
  signed[OPTIONAL_HEADER + 64]! ^= 0xff;
  assert.equal(toHex(await authenticodeSha256(signed)), unsigned);
});

test("Authenticode refuses files whose offsets point outside", async () => {
  const refused = async (change: (image: Uint8Array) => void) => {
    const image = kernel();
    change(image);
    await assert.rejects(async () => await authenticodeSha256(image), AppError);
  };
  await refused((image) => image.fill(0xff, 0x3c, 0x40));
  await refused((image) => image.fill(0, 0x40, 0x44));
  await refused((image) => image.fill(0xff, OPTIONAL_HEADER + 60, OPTIONAL_HEADER + 64));
  await refused((image) =>
    image.fill(0xff, OPTIONAL_HEADER + 0xa0 + 20, OPTIONAL_HEADER + 0xa0 + 24)
  );
  await refused((image) => image.fill(0xff, CERTIFICATE_DIRECTORY, CERTIFICATE_DIRECTORY + 8));
  await assert.rejects(async () => await authenticodeSha256(kernel().subarray(0, 0x50)), AppError);
});

// The header bytes QEMU up to 10.1 writes for a real dstack image, initrd of 0xa962c0 bytes at 2 GiB:
// Dstack-TEE/dstack issue 1185.
test("the kernel header is patched as QEMU patches it", () => {
  const patched = patchKernel(kernel(), 0xa962c0, 2 * GIB);
  assert.equal(toHex(patched.subarray(0x210, 0x212)), "b081");
  assert.equal(toHex(patched.subarray(0x218, 0x220)), "0010547fc062a900");
  assert.equal(toHex(patched.subarray(0x224, 0x226)), "00fe");
  assert.equal(toHex(patched.subarray(0x228, 0x22c)), "00000200");
  const untouched = (image: Uint8Array) =>
    toHex(image.slice(0, 0x210)) + toHex(image.slice(0x212, 0x218)) + toHex(image.slice(0x22c));
  assert.equal(untouched(patched), untouched(kernel()));
});

test("2 GiB and everything from 2816 MiB give one kernel, other sizes another", () => {
  const at = (memoryBytes: number) => toHex(patchKernel(kernel(), 0xa962c0, memoryBytes));
  const lite = at(2 * GIB);
  for (const memoryBytes of [0xb0000000, 3 * GIB, 64 * GIB]) assert.equal(at(memoryBytes), lite);
  assert.notEqual(at(GIB), lite);
  assert.notEqual(at(0xb0000000 - 4096), lite);
});

test("a normalised kernel is what every QEMU hands over", () => {
  const shipped = normalizeKernelHeader(kernel(), 0xa962c0);
  assert.equal(toHex(patchKernel(shipped, 0xa962c0, 16 * GIB)), toHex(shipped));
});

test("an initrd that cannot be placed is refused", () => {
  assert.throws(() => patchKernel(kernel(), 0x7ffe0000, 2 * GIB), /does not fit/);
  assert.throws(() => patchKernel(new Uint8Array(0xfff), 1, 2 * GIB), /shorter/);
});

// spec/os.md 8.2
test("the command line is measured as UTF-16 with QEMU's initrd argument", async () => {
  assert.equal(
    toHex(await sha384Of(measuredCmdline("console=ttyS0"))),
    "1d26f8aff8992fdfc37e88b4fdf4a1a0ebb815a2ce925ea3046b3ba1f24a933e75a163af2af579268c20ca5f476f5386",
  );
});
