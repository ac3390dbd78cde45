import { createHash } from "node:crypto";
import { mkdir, readdir, readFile, rm, stat } from "node:fs/promises";
import { encodeCpio } from "../cpio.ts";
import { INITRAMFS_PROGRAMS, initramfsEntries } from "../initramfs.ts";
import { INITRAMFS_MODULES } from "../kernel-modules.ts";
import type { PackageLock } from "../lock.ts";
import { BUILD_TOOLS, type Flavour, GUESTS, KERNEL } from "../package-set.ts";
import type { RootTree } from "../root-tree.ts";
import { command } from "./command.ts";
import { buildFirmware } from "./firmware.ts";
import { type GuestKernel, prepareKernel } from "./kernel.ts";
import { composeRoot, packRoot, type VerityImage } from "./root-file-system.ts";
import { installRootPackages } from "./root-packages.ts";
import { type ToolTree, treeArgv, unpackToolTree } from "./tool-tree.ts";
import { fetchPackages, type Workspace, writeFileWhole } from "./workspace.ts";

export interface PartsRequest {
  readonly flavour: Flavour;
  /** Semantic version of the image. */
  readonly version: string;
  /** Absolute paths of the Deno binary and of the program it runs. */
  readonly deno: string;
  readonly bundle: string;
}

/** What an image is put together from; paths are absolute. */
export interface ImageParts {
  readonly firmware: string;
  readonly kernel: string;
  readonly initramfs: string;
  readonly root: VerityImage;
  readonly locks: readonly PackageLock[];
}

/** How many finished roots stay in the cache: two flavours, and what was built before. */
const KEPT_ROOTS = 4;

/** Builds the parts, or finds them in the cache when nothing they are made from has changed. */
export async function prepareParts(
  workspace: Workspace,
  request: PartsRequest,
): Promise<ImageParts> {
  const { lock: toolsLock } = await fetchPackages(workspace, BUILD_TOOLS);
  const { lock: kernelLock } = await fetchPackages(workspace, KERNEL);
  const { lock: rootLock } = await fetchPackages(workspace, GUESTS[request.flavour]);
  const locks = [toolsLock, kernelLock, rootLock];
  const tools = await unpackToolTree(workspace, `${workspace.cache}/tools`, toolsLock);
  // The longest step does not need the others.
  const [firmware, guest] = await Promise.all([
    buildFirmware(workspace),
    prepareGuest(workspace, request, tools, locks, { kernelLock, rootLock }),
  ]);
  return { firmware, locks, ...guest };
}

async function prepareGuest(
  workspace: Workspace,
  request: PartsRequest,
  tools: ToolTree,
  locks: readonly PackageLock[],
  { kernelLock, rootLock }: { kernelLock: PackageLock; rootLock: PackageLock },
): Promise<Pick<ImageParts, "kernel" | "initramfs" | "root">> {
  const kernel = await prepareKernel(workspace, kernelLock, tools);
  const directory = `${workspace.cache}/image-parts`;
  const key = await partsKey(workspace, request, locks);
  const initramfs = `${directory}/${key}.cpio.gz`;
  const known = await readFile(`${directory}/${key}.json`, "utf8").catch(() => undefined);
  if (known !== undefined) {
    const root = JSON.parse(known) as VerityImage;
    if (await isFile(root.path)) return { kernel: kernel.image, initramfs, root };
  }
  const epoch = epochOf(rootLock.resolvedAt);
  const installed = await installRootPackages(workspace, rootLock, epoch);
  const { tree, entries } = await composeRoot(workspace, { ...request, installed, kernel, epoch });
  const root = await packRoot(workspace, tools, entries, epoch);
  await mkdir(directory, { recursive: true });
  await writeFileWhole(initramfs, await packInitramfs(workspace, tools, tree, kernel));
  await writeFileWhole(`${directory}/${key}.json`, JSON.stringify(root));
  await removeOldest(`${workspace.cache}/root-images`, ".verity", KEPT_ROOTS);
  await removeOldest(`${workspace.cache}/root-packages`, ".tar", KEPT_ROOTS);
  return { kernel: kernel.image, initramfs, root };
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

/** A hash over everything the parts are made from: this program, the locks, what goes in beside them. */
async function partsKey(
  workspace: Workspace,
  { flavour, version, deno, bundle }: PartsRequest,
  locks: readonly PackageLock[],
): Promise<string> {
  const hash = createHash("sha256");
  const add = (...parts: (string | Uint8Array)[]) => {
    for (const part of parts) hash.update(`${part.length}:`).update(part);
  };
  add(flavour, version, JSON.stringify(locks), await readFile(deno), await readFile(bundle));
  const source = `${workspace.root}/guest/os`;
  for (const name of (await readdir(source, { recursive: true })).sort()) {
    if (/(?:\.test\.ts|\.md)$|^lock\//.test(name)) continue;
    const found = await stat(`${source}/${name}`);
    if (found.isFile()) {
      add(name, String(found.mode & 0o100), await readFile(`${source}/${name}`));
    }
  }
  return hash.digest("hex").slice(0, 16);
}

async function removeOldest(directory: string, suffix: string, kept: number): Promise<void> {
  const names = (await readdir(directory)).filter((name) => name.endsWith(suffix));
  const dated = await Promise.all(
    names.map(async (name) => ({ name, at: (await stat(`${directory}/${name}`)).mtimeMs })),
  );
  dated.sort((a, b) => b.at - a.at);
  for (const { name } of dated.slice(kept)) {
    await rm(`${directory}/${name}`, { force: true });
    await rm(`${directory}/${name}.json`, { force: true });
  }
}

/** `YYYYMMDDTHHMMSSZ` in seconds since 1970. */
function epochOf(resolvedAt: string): number {
  const [, y, mo, d, h, mi, s] = /^(....)(..)(..)T(..)(..)(..)Z$/.exec(resolvedAt)!;
  return Date.parse(`${y}-${mo}-${d}T${h}:${mi}:${s}Z`) / 1000;
}

async function isFile(path: string): Promise<boolean> {
  return await stat(path).then((found) => found.isFile(), () => false);
}
