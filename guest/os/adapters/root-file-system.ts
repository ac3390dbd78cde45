import { createHash } from "node:crypto";
import { createReadStream } from "node:fs";
import { mkdir, open, readdir, readFile, rename, stat } from "node:fs/promises";
import { toHex } from "#core/bytes/bytes.ts";
import { VERITY_BLOCK, VerityTreeBuilder } from "#core/measurement/verity.ts";
import { RootTree } from "../root-tree.ts";
import { encodeTarEntry, readTar, TAR_END, type TarEntry } from "../tar.ts";
import type { Flavour } from "../package-set.ts";
import type { GuestKernel } from "./kernel.ts";
import { command } from "./command.ts";
import { withScratch } from "./scratch.ts";
import { type ToolTree, treeArgv } from "./tool-tree.ts";
import { type Workspace, writeFileWhole } from "./workspace.ts";

export interface RootInputs {
  readonly flavour: Flavour;
  /** Absolute path of the tar of installed packages. */
  readonly installed: string;
  readonly kernel: GuestKernel;
  /** Absolute paths. */
  readonly deno: string;
  readonly bundle: string;
  /** Seconds; every file's time. */
  readonly epoch: number;
  readonly version: string;
}

const MOUNT_POINTS = [
  "dev",
  "proc",
  "run",
  "sys",
  "var",
  "dstack",
  "home",
  "media",
  "mnt",
  "opt",
  "srv",
];
const PROGRAM_LINKS: Readonly<Record<string, string>> = {
  "usr/bin/dstack-util": "dstack-guest",
  "usr/bin/tdxctl": "dstack-guest",
  // iproute2's brings libbpf, and where that is systemd spends a second of an emulated boot to try it out.
  "usr/sbin/ip": "../bin/busybox",
};
const WANTED: Readonly<Record<string, readonly string[]>> = {
  "sysinit.target": [
    "dstack-kernel.service",
    "dstack-modules.service",
    "systemd-journald.service",
  ],
  "sockets.target": [
    "systemd-journald.socket",
    "systemd-journald-dev-log.socket",
  ],
  "multi-user.target": [
    "dstack-network.service",
    "dstack-guest.service",
  ],
};

/** Composes the root tree of a flavour; the same inputs give the same entries. */
export async function composeRoot(
  workspace: Workspace,
  inputs: RootInputs,
): Promise<{ tree: RootTree; entries: TarEntry[] }> {
  const tree = new RootTree(readTar(await readFile(inputs.installed)));
  for (const path of MOUNT_POINTS) tree.addDirectory(path);
  tree.addDirectory("root", 0o700);
  tree.addDirectory("tmp", 0o1777);
  tree.addDirectory("usr/local/bin");
  tree.addSymlink("tapp", "dstack");
  await addFolder(tree, `${workspace.root}/guest/os/overlay`, "");
  await addFolder(tree, inputs.kernel.modules, `usr/lib/modules/${inputs.kernel.release}`);
  tree.addFile("usr/bin/deno", await readFile(inputs.deno), 0o755);
  tree.addFile("usr/lib/dstack/dstack-guest.js", await readFile(inputs.bundle), 0o644);
  for (const [link, target] of Object.entries(PROGRAM_LINKS)) tree.addSymlink(link, target);
  tree.addSymlink("etc/resolv.conf", "../run/dstack/resolv.conf");
  tree.addSymlink("etc/mtab", "../proc/self/mounts");
  tree.addSymlink("usr/sbin/init", "../lib/systemd/systemd");
  tree.addFile("etc/machine-id", new Uint8Array(0), 0o444);
  tree.addFile("usr/lib/os-release", osRelease(inputs), 0o644);
  tree.addSymlink("usr/lib/systemd/system/default.target", "multi-user.target");
  for (const [target, units] of Object.entries(WANTED)) {
    for (const unit of units) {
      tree.addSymlink(`usr/lib/systemd/system/${target}.wants/${unit}`, `../${unit}`);
    }
  }
  return { tree, entries: tree.finish(inputs.flavour) };
}

/** `VERSION_ID` is read for an app's `requirements.os_version`, so it is the image's version. */
function osRelease({ version, flavour }: RootInputs): Uint8Array {
  return new TextEncoder().encode(`ID=dstack
ID_LIKE=debian
NAME="dstack"
VERSION_ID="${version}"
VARIANT_ID="${flavour}"
PRETTY_NAME="dstack ${version} (${flavour})"
`);
}

export interface VerityImage {
  /** Absolute path of the file system with its hash tree appended. */
  readonly path: string;
  /** 64 hex digits. */
  readonly rootHash: string;
  /** Bytes of the file system, where the hash tree starts. */
  readonly dataSize: number;
  /** Bytes of both. */
  readonly size: number;
}

/** Packs the entries into a compressed read-only file system with dm-verity; kept by its content. */
export async function packRoot(
  workspace: Workspace,
  tools: ToolTree,
  entries: readonly TarEntry[],
  epoch: number,
): Promise<VerityImage> {
  const directory = `${workspace.cache}/root-images`;
  return await withScratch(workspace.cache, "root", async (work) => {
    const tarHash = await writeTar(`${work}/root.tar`, entries, epoch);
    const recipe = await readFile(new URL(import.meta.url));
    const key = createHash("sha256").update(recipe).update(tarHash).digest("hex").slice(0, 16);
    const path = `${directory}/${key}.verity`;
    const known = await readFile(`${path}.json`, "utf8").catch(() => undefined);
    if (known !== undefined) return { path, ...JSON.parse(known) as Omit<VerityImage, "path"> };

    workspace.say("packing the root file system");
    await makeFileSystem(tools, work, epoch);
    const facts = await appendHashTree(`${work}/root.img`);
    await mkdir(directory, { recursive: true });
    await rename(`${work}/root.img`, path);
    await writeFileWhole(`${path}.json`, JSON.stringify(facts));
    return { path, ...facts };
  });
}

async function makeFileSystem(tools: ToolTree, work: string, epoch: number): Promise<void> {
  await command(treeArgv(tools, "usr/bin/mkfs.erofs", [
    "--quiet",
    "--tar=f",
    "-zlz4hc,level=9",
    "-C65536",
    `-T${epoch}`,
    "-U00000000-0000-0000-0000-000000000000",
    `${work}/root.img`,
    `${work}/root.tar`,
  ]));
}

async function addFolder(tree: RootTree, folder: string, at: string): Promise<void> {
  for (const found of await readdir(folder, { withFileTypes: true })) {
    const from = `${folder}/${found.name}`;
    const to = at === "" ? found.name : `${at}/${found.name}`;
    if (found.isDirectory()) {
      await addFolder(tree, from, to);
      continue;
    }
    const executable = ((await stat(from)).mode & 0o100) !== 0;
    const mode = to === "etc/shadow" ? 0o600 : executable ? 0o755 : 0o644;
    tree.addFile(to, await readFile(from), mode);
  }
}

/** Writes the archive and returns the SHA-256 of its bytes. */
async function writeTar(
  path: string,
  entries: readonly TarEntry[],
  epoch: number,
): Promise<Uint8Array> {
  const hash = createHash("sha256");
  const file = await open(path, "w");
  try {
    const write = async (chunk: Uint8Array) => {
      hash.update(chunk);
      await file.writeFile(chunk);
    };
    for (const entry of entries) {
      for (const chunk of encodeTarEntry(entry, epoch)) await write(chunk);
    }
    await write(TAR_END);
  } finally {
    await file.close();
  }
  return hash.digest();
}

/** Pads the file to whole blocks and appends its dm-verity tree (spec/os.md 1.6). */
async function appendHashTree(image: string): Promise<Omit<VerityImage, "path">> {
  const builder = new VerityTreeBuilder((bytes) => createHash("sha256").update(bytes).digest());
  for await (const chunk of createReadStream(image, { highWaterMark: 1 << 20 })) {
    builder.update(chunk as Uint8Array);
  }
  const { rootHash, hashArea } = builder.finish();
  const { size } = await stat(image);
  const dataSize = Math.ceil(size / VERITY_BLOCK) * VERITY_BLOCK;
  const file = await open(image, "r+");
  try {
    await file.truncate(dataSize);
    await file.write(hashArea, 0, hashArea.length, dataSize);
  } finally {
    await file.close();
  }
  return { rootHash: toHex(rootHash), dataSize, size: dataSize + hashArea.length };
}
