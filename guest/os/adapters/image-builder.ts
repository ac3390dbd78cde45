import { createHash } from "node:crypto";
import { readFile } from "node:fs/promises";
import { toHex, utf8 } from "#core/bytes/bytes.ts";
import { AppError } from "#core/errors/app-error.ts";
import { encodeChecksumFile, osImageHash } from "#core/measurement/checksum-file.ts";
import { encodeImageManifest } from "#core/measurement/image-manifest.ts";
import { normalizeKernelHeader } from "#core/measurement/kernel-patch.ts";
import { measureTdxImage } from "#core/measurement/measure-image.ts";
import { encodeTdxMeasurementDocument } from "#core/measurement/tdx-measurement-document.ts";
import { kernelCommandLine } from "../cmdline.ts";
import { writeImageFolder } from "./image-folder.ts";
import { type ImageParts, type PartsRequest, prepareParts } from "./image-parts.ts";
import { type Workspace, writeFileWhole } from "./workspace.ts";

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
  try {
    const parts = await prepareParts(workspace, request);
    const { files, digest } = await smallFiles(request, parts);
    const disk = { name: ROOT_FILE, root: parts.root };
    const written = await writeImageFolder(out, name, files, disk);
    // Beside the folder, for whoever must build the same again.
    await writeFileWhole(`${out}/${name}.lock.json`, JSON.stringify(parts.locks, null, 2) + "\n");
    return { directory: `${out}/${name}`, osImageHash: digest, written };
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

function sha256(bytes: Uint8Array): Uint8Array {
  return createHash("sha256").update(bytes).digest();
}
