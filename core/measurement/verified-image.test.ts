import assert from "node:assert/strict";
import { test } from "node:test";
import { sha256 } from "@noble/hashes/sha2.js";
import { fromUtf8, toHex, utf8 } from "../bytes/bytes.ts";
import { AppError } from "../errors/app-error.ts";
import { encodeChecksumFile, parseChecksumFile } from "./checksum-file.ts";
import { encodeImageManifest, parseImageManifest, rootfsCommitmentOf } from "./image-manifest.ts";
import { type ImageFolder, readTdxFiles, verifyImage } from "./verified-image.ts";

const MANIFEST = {
  bios: "ovmf.fd",
  kernel: "bzImage",
  cmdline: `console=ttyS0 dstack.rootfs_hash=${"ab".repeat(32)} dstack.rootfs_size=4096`,
  initrd: "initramfs.cpio.gz",
  rootfs: "rootfs.img.parted.verity",
  version: "0.1.0",
  gitRevision: "0123abc",
  sharedRo: true,
  isDev: false,
  ovmfVariant: "pre202505",
};

/** An image folder in memory, complete unless `change` makes it otherwise. */
function folder(change: (files: Map<string, Uint8Array>) => void = () => {}): ImageFolder {
  const files = new Map([
    ["ovmf.fd", utf8("firmware")],
    ["bzImage", utf8("kernel")],
    ["initramfs.cpio.gz", utf8("initrd")],
    ["metadata.json", encodeImageManifest(MANIFEST)],
    ["measurement.tdx.cbor", utf8("document")],
  ]);
  const list = encodeChecksumFile(
    new Map([...files].map(([name, bytes]) => [name, sha256(bytes)])),
  );
  files.set("sha256sum.txt", list);
  files.set("digest.txt", utf8(toHex(sha256(list)) + "\n"));
  files.set("rootfs.img.parted.verity", utf8("rootfs"));
  change(files);
  return {
    read: (name) => Promise.resolve(files.get(name)),
    sha256: (name) => Promise.resolve(files.has(name) ? sha256(files.get(name)!) : undefined),
  };
}

test("a complete image is named by the hash of its checksum file", async () => {
  const image = await verifyImage(folder());
  assert.deepEqual(image.osImageHash, sha256(image.checksumFile));
  assert.deepEqual(image.manifest, MANIFEST);
  assert.deepEqual(image.tdxMeasurement, utf8("document"));
  assert.deepEqual([...image.checksums.keys()], [
    "ovmf.fd",
    "bzImage",
    "initramfs.cpio.gz",
    "metadata.json",
    "measurement.tdx.cbor",
  ]);
});

test("a changed, missing or unlisted file refuses the image and is named", async () => {
  const refused = (pattern: RegExp, change: (files: Map<string, Uint8Array>) => void) =>
    assert.rejects(
      verifyImage(folder(change)),
      (error) =>
        error instanceof AppError && error.code === "measurement/image-mismatch" &&
        pattern.test(error.message),
    );
  await refused(/bzImage has SHA-256/, (files) => files.set("bzImage", utf8("other")));
  await refused(/initramfs.cpio.gz is missing/, (files) => files.delete("initramfs.cpio.gz"));
  await refused(/sha256sum.txt is missing/, (files) => files.delete("sha256sum.txt"));
  await refused(/digest.txt/, (files) => files.set("digest.txt", utf8("00".repeat(32))));
  await refused(/does not list ovmf.fd/, (files) => {
    const lines = fromUtf8(files.get("sha256sum.txt")!).split("\n").slice(1);
    files.set("sha256sum.txt", utf8(lines.join("\n")));
    files.delete("digest.txt");
  });
});

test("an image other than the expected one is refused", async () => {
  await assert.rejects(verifyImage(folder(), new Uint8Array(32)), /expected 0000/);
});

test("metadata.json has the reference's members in its order", () => {
  const text = fromUtf8(encodeImageManifest(MANIFEST));
  assert.deepEqual(Object.keys(JSON.parse(text)), [
    "bios",
    "kernel",
    "cmdline",
    "initrd",
    "rootfs",
    "version",
    "git_revision",
    "shared_ro",
    "is_dev",
    "ovmf_variant",
  ]);
  assert.match(text, /^\{\n {4}"bios": "ovmf.fd",\n/);
});

test("a manifest cannot name files outside its folder", () => {
  for (const kernel of ["../bzImage", "/boot/bzImage", "a/b", "", ".."]) {
    const manifest = JSON.stringify({ kernel, initrd: "initrd" });
    assert.throws(() => parseImageManifest(utf8(manifest)), /not a flat file name/);
  }
});

test("the checksum file is GNU sha256sum's, and anything else in it is refused", () => {
  const digest = "ab".repeat(32);
  const checksums = parseChecksumFile(utf8(`${digest}  a\n${digest}  b.c\n`));
  assert.equal(fromUtf8(encodeChecksumFile(checksums)), `${digest}  a\n${digest}  b.c\n`);
  for (
    const bad of [
      `${digest}  a\n${digest}  a\n`,
      `${digest}  ../a\n`,
      `${digest}  a b\n`,
      `${digest}\n`,
      `${digest.slice(2)}  a\n`,
      `${digest}  sha256sum.txt\n`,
    ]
  ) assert.throws(() => parseChecksumFile(utf8(bad)), AppError, bad);
});

test("the command line commits to one root file system", () => {
  assert.deepEqual(rootfsCommitmentOf(MANIFEST.cmdline), {
    rootHash: "ab".repeat(32),
    dataSize: 4096,
  });
  const bad = [
    "console=ttyS0",
    MANIFEST.cmdline + ` dstack.rootfs_hash=${"cd".repeat(32)}`,
    MANIFEST.cmdline.replace("4096", "04096"),
  ];
  for (const cmdline of bad) assert.throws(() => rootfsCommitmentOf(cmdline), AppError);
});

test("what a TD measures is read and checked byte for byte", async () => {
  const image = await verifyImage(folder());
  assert.deepEqual(await readTdxFiles(folder(), image), {
    firmware: utf8("firmware"),
    kernel: utf8("kernel"),
    initrd: utf8("initrd"),
    cmdline: MANIFEST.cmdline,
  });
  const swapped = folder((files) => files.set("bzImage", utf8("another")));
  await assert.rejects(readTdxFiles(swapped, image), /bzImage changed/);
  const { bios: _, ...manifest } = MANIFEST;
  await assert.rejects(
    readTdxFiles(folder(), { ...image, manifest }),
    (error) => error instanceof AppError && error.code === "measurement/unsupported",
  );
});
