import { createHash } from "node:crypto";
import { createReadStream, createWriteStream } from "node:fs";
import { mkdir, open, readdir, readFile, rename, rm, writeFile } from "node:fs/promises";
import { pipeline } from "node:stream/promises";
import { toHex, utf8 } from "#core/bytes/bytes.ts";
import { AppError } from "#core/errors/app-error.ts";
import { encodeChecksumFile, osImageHash } from "#core/measurement/checksum-file.ts";
import { encodeImageManifest } from "#core/measurement/image-manifest.ts";
import { normalizeKernelHeader } from "#core/measurement/kernel-patch.ts";
import { measureTdxImage } from "#core/measurement/measure-image.ts";
import { encodeTdxMeasurementDocument } from "#core/measurement/tdx-measurement-document.ts";
import { kernelCommandLine } from "../cmdline.ts";
import { gptFrame } from "../gpt.ts";
import { type ImageParts, type PartsRequest, prepareParts } from "./image-parts.ts";
import { removeAbandoned } from "./scratch.ts";
import type { VerityImage } from "./root-file-system.ts";
import type { Workspace } from "./workspace.ts";

export interface ImageRequest extends PartsRequest {
  /** The folder that image folders are made in, absolute. */
  readonly out: string;
  /** Commit it is built from, for people. */
  readonly gitRevision: string;
}

export interface BuiltImage {
  /** Absolute path of the image folder. */
  readonly directory: string;
  /** 64 hex digits. */
  readonly osImageHash: string;
  /** False when the folder was there already, byte for byte. */
  readonly written: boolean;
}

const ROOT_FILE = "rootfs.img.parted.verity";
const INITRD_FILE = "initramfs.cpio.gz";
const FIRMWARE_FILE = "ovmf.fd";
const KERNEL_FILE = "bzImage";
const MEASUREMENT_FILE = "measurement.tdx.cbor";

/**
 * Builds one image folder in the reference's format (spec/os.md 1.1-1.6). It appears under its name only
 * when all of it is on disk; the name is `dstack-<version>` or `dstack-dev-<version>`.
 */
export async function buildImage(workspace: Workspace, request: ImageRequest): Promise<BuiltImage> {
  const { flavour, out, version } = request;
  const name = flavour === "dev" ? `dstack-dev-${version}` : `dstack-${version}`;
  const directory = `${out}/${name}`;
  try {
    const parts = await prepareParts(workspace, request);
    const { files, digest } = await smallFiles(request, parts);
    await mkdir(out, { recursive: true });
    await removeAbandoned(out, /^\.(?:building|replaced)-.+\.(\d+)$/);
    if (await isPresent(directory, files, parts.root)) {
      return { directory, osImageHash: digest, written: false };
    }
    const work = `${out}/.building-${name}.${process.pid}`;
    try {
      await mkdir(work);
      for (const [file, bytes] of files) await writeFile(`${work}/${file}`, bytes);
      await writeDisk(`${work}/${ROOT_FILE}`, parts.root);
      await syncAll(work);
      // Beside the folder, for whoever must build the same again.
      await writeFile(`${out}/${name}.lock.json`, JSON.stringify(parts.locks, null, 2) + "\n");
      await publish(work, out, name);
      return { directory, osImageHash: digest, written: true };
    } finally {
      await rm(work, { recursive: true, force: true });
    }
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== "ENOSPC") throw error;
    throw new AppError("os-build/disk-full", `No space left to build ${name}`, { cause: error });
  }
}

/** Every file of the folder but the root disk, in the order that sha256sum.txt lists them. */
async function smallFiles(
  { flavour, version, gitRevision }: ImageRequest,
  parts: ImageParts,
): Promise<{ files: Map<string, Uint8Array>; digest: string }> {
  const cmdline = kernelCommandLine(flavour, parts.root.rootHash, parts.root.dataSize);
  const firmware = await readFile(parts.firmware);
  const initrd = await readFile(parts.initramfs);
  // docs/adr/0003: one digest of the kernel, whichever QEMU loads it.
  const kernel = normalizeKernelHeader(await readFile(parts.kernel), initrd.length);
  const manifest = encodeImageManifest({
    bios: FIRMWARE_FILE,
    kernel: KERNEL_FILE,
    cmdline,
    initrd: INITRD_FILE,
    rootfs: ROOT_FILE,
    version,
    gitRevision,
    sharedRo: true,
    isDev: flavour === "dev",
    ovmfVariant: "pre202505",
  });
  const measurement = await measureTdxImage({ firmware, kernel, initrd, cmdline });
  const files = new Map<string, Uint8Array>([
    [FIRMWARE_FILE, firmware],
    [KERNEL_FILE, kernel],
    [INITRD_FILE, initrd],
    ["metadata.json", manifest],
    [MEASUREMENT_FILE, encodeTdxMeasurementDocument(measurement)],
  ]);
  const checksums = encodeChecksumFile(
    new Map([...files].map(([file, bytes]) => [file, sha256(bytes)])),
  );
  const digest = toHex(osImageHash(checksums));
  files.set("sha256sum.txt", checksums);
  files.set("digest.txt", utf8(`${digest}\n`));
  return { files, digest };
}

/** Whether the folder holds exactly this image; a damaged one is built anew. */
async function isPresent(
  directory: string,
  files: ReadonlyMap<string, Uint8Array>,
  root: VerityImage,
): Promise<boolean> {
  for (const [file, bytes] of files) {
    const there = await readFile(`${directory}/${file}`).catch(() => undefined);
    if (there === undefined || !there.equals(bytes)) return false;
  }
  const expected = createHash("sha256");
  for await (const chunk of diskBytes(root)) expected.update(chunk);
  const actual = createHash("sha256");
  try {
    for await (const chunk of createReadStream(`${directory}/${ROOT_FILE}`)) {
      actual.update(chunk as Uint8Array);
    }
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === "ENOENT") return false;
    throw error;
  }
  return expected.digest().equals(actual.digest());
}

/** The file system and its hash tree as the one partition of a disk. */
async function* diskBytes(root: VerityImage): AsyncGenerator<Uint8Array> {
  const frame = gptFrame(root.size);
  yield frame.before;
  yield* createReadStream(root.path, { highWaterMark: 1 << 20 });
  yield frame.after;
}

async function writeDisk(path: string, root: VerityImage): Promise<void> {
  await pipeline(diskBytes(root), createWriteStream(path));
}

/** Puts the finished folder in place of an older one of the same name. */
async function publish(work: string, out: string, name: string): Promise<void> {
  const replaced = `${out}/.replaced-${name}.${process.pid}`;
  await rename(`${out}/${name}`, replaced).catch((error: NodeJS.ErrnoException) => {
    if (error.code !== "ENOENT") throw error;
  });
  await rename(work, `${out}/${name}`);
  await rm(replaced, { recursive: true, force: true });
  await sync(out);
}

async function syncAll(directory: string): Promise<void> {
  for (const name of await readdir(directory)) await sync(`${directory}/${name}`);
  await sync(directory);
}

async function sync(path: string): Promise<void> {
  const file = await open(path, "r");
  try {
    await file.sync();
  } finally {
    await file.close();
  }
}

function sha256(bytes: Uint8Array): Uint8Array {
  return createHash("sha256").update(bytes).digest();
}
