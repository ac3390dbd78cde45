import { createHash } from "node:crypto";
import { createWriteStream } from "node:fs";
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
import { encodeCpio } from "../cpio.ts";
import { gptFrame } from "../gpt.ts";
import { INITRAMFS_PROGRAMS, initramfsEntries } from "../initramfs.ts";
import { INITRAMFS_MODULES } from "../kernel-modules.ts";
import { encodePackageLock } from "../lock.ts";
import { BUILD_TOOLS, type Flavour, GUESTS, KERNEL } from "../package-set.ts";
import type { RootTree } from "../root-tree.ts";
import { command } from "./command.ts";
import { buildFirmware } from "./firmware.ts";
import { type GuestKernel, prepareKernel } from "./kernel.ts";
import { composeRoot, packRoot, type VerityImage } from "./root-file-system.ts";
import { installRootPackages } from "./root-packages.ts";
import { type ToolTree, treeArgv, unpackToolTree } from "./tool-tree.ts";
import { fetchPackages, type Workspace } from "./workspace.ts";

export interface ImageRequest {
  readonly flavour: Flavour;
  /** The folder that image folders are made in, absolute. */
  readonly out: string;
  /** Semantic version of the image. */
  readonly version: string;
  /** Commit it is built from, for people. */
  readonly gitRevision: string;
  /** Absolute paths of the Deno binary and of the program it runs. */
  readonly deno: string;
  readonly bundle: string;
}

export interface BuiltImage {
  /** Absolute path of the image folder. */
  readonly directory: string;
  /** 64 hex digits. */
  readonly osImageHash: string;
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
  const { lock: toolsLock } = await fetchPackages(workspace, BUILD_TOOLS);
  const { lock: kernelLock } = await fetchPackages(workspace, KERNEL);
  const { lock: rootLock } = await fetchPackages(workspace, GUESTS[flavour]);
  const tools = await unpackToolTree(`${workspace.cache}/build-tools`, toolsLock, workspace.store);
  const firmware = await readFile(await buildFirmware(workspace));
  const kernel = await prepareKernel(workspace, kernelLock, tools);
  const epoch = epochOf(rootLock.resolvedAt);
  const installed = await installRootPackages(workspace, rootLock, epoch);
  const { tree, entries } = await composeRoot(workspace, { ...request, installed, kernel, epoch });
  const root = await packRoot(workspace, tools, entries, epoch);
  const initrd = await packInitramfs(workspace, tools, tree, kernel);

  await mkdir(out, { recursive: true });
  await removeLeftovers(out, name);
  const work = `${out}/.building-${name}.${process.pid}`;
  try {
    await mkdir(work);
    const cmdline = kernelCommandLine(flavour, root.rootHash, root.dataSize);
    const kernelImage = normalizeKernelHeader(await readFile(kernel.image), initrd.length);
    const manifest = encodeImageManifest({
      bios: FIRMWARE_FILE,
      kernel: KERNEL_FILE,
      cmdline,
      initrd: INITRD_FILE,
      rootfs: ROOT_FILE,
      version,
      gitRevision: request.gitRevision,
      sharedRo: true,
      isDev: flavour === "dev",
      ovmfVariant: "pre202505",
    });
    const measurement = encodeTdxMeasurementDocument(
      await measureTdxImage({ firmware, kernel: kernelImage, initrd, cmdline }),
    );
    const listed: [string, Uint8Array][] = [
      [FIRMWARE_FILE, firmware],
      [KERNEL_FILE, kernelImage],
      [INITRD_FILE, initrd],
      ["metadata.json", manifest],
      [MEASUREMENT_FILE, measurement],
    ];
    const checksums = encodeChecksumFile(
      new Map(listed.map(([file, bytes]) => [file, sha256(bytes)])),
    );
    const digest = toHex(osImageHash(checksums));
    for (
      const [file, bytes] of [
        ...listed,
        ["sha256sum.txt", checksums],
        ["digest.txt", utf8(`${digest}\n`)],
      ] as const
    ) await writeFile(`${work}/${file}`, bytes);
    await writeDisk(`${work}/${ROOT_FILE}`, root);
    await syncAll(work);
    const directory = await publish(work, out, name);
    await recordLocks(out, name, [toolsLock, kernelLock, rootLock].map(encodePackageLock));
    return { directory, osImageHash: digest };
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === "ENOSPC") {
      throw new AppError("os-build/disk-full", `No space left for ${name} in ${out}`, {
        cause: error,
      });
    }
    throw error;
  } finally {
    await rm(work, { recursive: true, force: true });
  }
}

async function packInitramfs(
  workspace: Workspace,
  tools: ToolTree,
  tree: RootTree,
  kernel: GuestKernel,
): Promise<Uint8Array> {
  const init = await readFile(`${workspace.root}/guest/os/initramfs/init`);
  const modules = await Promise.all(
    kernel.index.closure(INITRAMFS_MODULES).map(async (path) => ({
      name: path.slice(path.lastIndexOf("/") + 1),
      content: await readFile(`${kernel.modules}/${path}`),
    })),
  );
  const archive = encodeCpio(
    initramfsEntries(init, tree.programClosure(INITRAMFS_PROGRAMS), modules),
  );
  return await command(treeArgv(tools, "usr/bin/gzip", ["-n", "-9"]), { input: archive });
}

/** The file system and its hash tree as the one partition of a disk. */
async function writeDisk(path: string, root: VerityImage): Promise<void> {
  const source = await open(root.path, "r");
  const { size } = await source.stat();
  const frame = gptFrame(size);
  const sink = createWriteStream(path);
  await pipeline(async function* () {
    yield frame.before;
    yield* source.createReadStream();
    yield frame.after;
  }, sink);
}

/** Puts the finished folder in place of an older one of the same name. */
async function publish(work: string, out: string, name: string): Promise<string> {
  const directory = `${out}/${name}`;
  const replaced = `${out}/.replaced-${name}.${process.pid}`;
  await rename(directory, replaced).catch((error: NodeJS.ErrnoException) => {
    if (error.code !== "ENOENT") throw error;
  });
  await rename(work, directory);
  await rm(replaced, { recursive: true, force: true });
  const folder = await open(out, "r");
  await folder.sync();
  await folder.close();
  return directory;
}

/** What an interrupted build of the same image left; of a running one the process is still there. */
async function removeLeftovers(out: string, name: string): Promise<void> {
  for (const found of await readdir(out)) {
    const pid = new RegExp(`^\\.(?:building|replaced)-${name}\\.(\\d+)$`).exec(found)?.[1];
    if (pid !== undefined && !isRunning(Number(pid))) {
      await rm(`${out}/${found}`, { recursive: true, force: true });
    }
  }
}

function isRunning(pid: number): boolean {
  try {
    process.kill(pid, 0);
    return true;
  } catch {
    return false;
  }
}

/** The locks an image was really built from stand beside its folder, for whoever must build it again. */
async function recordLocks(out: string, name: string, locks: readonly string[]): Promise<void> {
  await writeFile(
    `${out}/${name}.lock.json`,
    `[${locks.map((text) => text.trimEnd()).join(",\n")}]\n`,
  );
}

async function syncAll(directory: string): Promise<void> {
  for (const name of [...await readdir(directory), "."]) {
    const file = await open(`${directory}/${name}`, "r");
    await file.sync();
    await file.close();
  }
}

/** `YYYYMMDDTHHMMSSZ` in seconds since 1970. */
function epochOf(resolvedAt: string): number {
  const [, y, mo, d, h, mi, s] = /^(....)(..)(..)T(..)(..)(..)Z$/.exec(resolvedAt)!;
  return Date.parse(`${y}-${mo}-${d}T${h}:${mi}:${s}Z`) / 1000;
}

function sha256(bytes: Uint8Array): Uint8Array {
  return createHash("sha256").update(bytes).digest();
}
