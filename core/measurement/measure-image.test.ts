import assert from "node:assert/strict";
import { test } from "node:test";
import { ByteWriter } from "../bytes/byte-writer.ts";
import { IMAGE_FILES } from "../../tests/fixtures/image-folder.ts";
import {
  bootableKernel,
  KERNEL_CERTIFICATE_DIRECTORY,
  KERNEL_OPTIONAL_HEADER,
} from "../../tests/fixtures/tdx-image.ts";
import { toHex } from "../bytes/bytes.ts";
import { AppError } from "../errors/app-error.ts";
import { acpiDigestsFor } from "./acpi/blobs.ts";
import { acpiMachineOf } from "./acpi/vm-machine.ts";
import { authenticodeSha256, authenticodeSha384 } from "./authenticode.ts";
import { sha256Of, sha384Of } from "./digest.ts";
import { normalizeKernelHeader, patchKernel } from "./kernel-patch.ts";
import { expectedTdxRegisters } from "./expected-registers.ts";
import { measuredCmdline, MeasuredImage, measureTdxImage } from "./measure-image.ts";
import {
  encodeTdxMeasurementDocument,
  parseTdxMeasurementDocument,
} from "./tdx-measurement-document.ts";
import { parseVmConfig } from "./vm-config.ts";

const GIB = 2 ** 30;
/** Four bytes stand after its last section. */
const kernel = () => bootableKernel(0x3004);

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
  signed.set(
    new ByteWriter().u32le(image.length + 4).u32le(16).finish(),
    KERNEL_CERTIFICATE_DIRECTORY,
  );
  signed[KERNEL_OPTIONAL_HEADER + 64]! ^= 0xff;
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
  await refused((image) =>
    image.fill(0xff, KERNEL_OPTIONAL_HEADER + 60, KERNEL_OPTIONAL_HEADER + 64)
  );
  await refused((image) =>
    image.fill(0xff, KERNEL_OPTIONAL_HEADER + 0xa0 + 20, KERNEL_OPTIONAL_HEADER + 0xa0 + 24)
  );
  await refused((image) =>
    image.fill(0xff, KERNEL_CERTIFICATE_DIRECTORY, KERNEL_CERTIFICATE_DIRECTORY + 8)
  );
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

const ACPI = {
  loader: new Uint8Array(48).fill(1),
  rsdp: new Uint8Array(48).fill(2),
  tables: new Uint8Array(48).fill(3),
};

test("an image and its measurement document predict the same registers", async () => {
  const encoded = encodeTdxMeasurementDocument(await measureTdxImage(IMAGE_FILES));
  const document = parseTdxMeasurementDocument(encoded);
  for (const memoryBytes of [2 * GIB, 0xb0000000, 16 * GIB]) {
    for (const twoPass of [false, true]) {
      const shape = { memoryBytes, twoPass, acpiDigests: ACPI };
      const fromImage = await new MeasuredImage(IMAGE_FILES).measure({
        ...shape,
        kernelHeader: "patched",
      });
      assert.deepEqual(fromImage, expectedTdxRegisters({ ...shape, document }));
    }
  }
});

test("only the image itself predicts other memory sizes", async () => {
  const shape = { memoryBytes: GIB, twoPass: false, acpiDigests: ACPI };
  const registers = await new MeasuredImage(IMAGE_FILES).measure({
    ...shape,
    kernelHeader: "patched",
  });
  const lite = await new MeasuredImage(IMAGE_FILES).measure({
    ...shape,
    memoryBytes: 2 * GIB,
    kernelHeader: "patched",
  });
  assert.equal(toHex(registers.mrTd), toHex(lite.mrTd));
  assert.equal(toHex(registers.rtmrs[2]), toHex(lite.rtmrs[2]));
  assert.notEqual(toHex(registers.rtmrs[0]), toHex(lite.rtmrs[0]));
  assert.notEqual(toHex(registers.rtmrs[1]), toHex(lite.rtmrs[1]));
});

test("QEMU from 10.2 on shows the kernel as shipped, whatever the memory size", async () => {
  const normalised = {
    ...IMAGE_FILES,
    kernel: normalizeKernelHeader(IMAGE_FILES.kernel, IMAGE_FILES.initrd.length),
  };
  const rtmr1 = async (
    files: typeof IMAGE_FILES,
    memoryBytes: number,
    kernelHeader: "patched" | "as-shipped",
  ) =>
    toHex(
      (await new MeasuredImage(files).measure({
        memoryBytes,
        twoPass: false,
        acpiDigests: ACPI,
        kernelHeader,
      }))
        .rtmrs[1],
    );
  const patched = await rtmr1(IMAGE_FILES, 2 * GIB, "patched");
  assert.equal(await rtmr1(normalised, 2 * GIB, "as-shipped"), patched);
  assert.equal(await rtmr1(normalised, GIB, "as-shipped"), patched);
  assert.notEqual(await rtmr1(IMAGE_FILES, 2 * GIB, "as-shipped"), patched);
});

test("a configuration decides passes, kernel header and ACPI tables", async () => {
  const image = new MeasuredImage(IMAGE_FILES);
  const registers = async (members: Record<string, unknown>) =>
    await image.measureVm(parseVmConfig(JSON.stringify({ memory_size: GIB, ...members })));
  for (const release of ["8.2.2", "9.1.0", "10.0.0", "11.1.3"]) {
    const config = { qemu_version: release, cpu_count: 2 };
    const acpiDigests = await acpiDigestsFor(acpiMachineOf(parseVmConfig(
      JSON.stringify({ memory_size: GIB, ...config }),
    )));
    assert.deepEqual(
      await registers(config),
      await new MeasuredImage(IMAGE_FILES).measure({
        memoryBytes: GIB,
        twoPass: release.startsWith("8."),
        kernelHeader: release.startsWith("11.") ? "as-shipped" : "patched",
        acpiDigests,
      }),
      release,
    );
  }
  for (const bad of [{}, { cpu_count: 1, swtpm: true }, { cpu_count: 1, ovmf_variant: "newer" }]) {
    await assert.rejects(
      registers(bad),
      (error) => error instanceof AppError && error.code === "measurement/unsupported",
    );
  }
});

test("what no verifier could predict is refused when an image is measured", async () => {
  const withVariable = IMAGE_FILES.firmware.slice();
  withVariable[0x64] = 0;
  await assert.rejects(
    measureTdxImage({ ...IMAGE_FILES, firmware: withVariable }),
    (error) => error instanceof AppError && error.code === "measurement/unsupported",
  );
  await assert.rejects(
    measureTdxImage({ ...IMAGE_FILES, cmdline: "console=ttyS0" }),
    /rootfs_hash/,
  );
});
