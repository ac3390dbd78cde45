import { createHash } from "node:crypto";
import { mkdir, readdir, readlink, rm, stat } from "node:fs/promises";
import { writeFileAtomic } from "#adapters/files.ts";
import { AppError } from "#core/errors/app-error.ts";
import type { PackageLock } from "../lock.ts";
import { command } from "./command.ts";
import { moveInto, withScratch } from "./scratch.ts";
import type { Workspace } from "./workspace.ts";

const LIBRARIES = ["usr/lib/x86_64-linux-gnu", "usr/lib"];
const LOADER = "usr/lib/x86_64-linux-gnu/ld-linux-x86-64.so.2";

/** Programs unpacked from packages, run by their own loader: nothing of the machine's libc is used. */
export interface ToolTree {
  /** Absolute. */
  readonly directory: string;
}

/** Unpacks the packages of a lock below `parent`, under a name that says what is in it; once. */
export async function unpackToolTree(
  workspace: Workspace,
  parent: string,
  lock: PackageLock,
): Promise<ToolTree> {
  const digests = lock.packages.map((p) => `${p.name} ${p.sha256}\n`).join("");
  const key = createHash("sha256").update(digests).digest("hex").slice(0, 16);
  const directory = `${parent}/${lock.set}-${key}`;
  if (await isFile(`${directory}/${LOADER}`)) return { directory };
  return await withScratch(workspace.cache, lock.set, async (work) => {
    const tree = `${work}/tree`;
    await mkdir(tree);
    for (const p of lock.packages) await command(["dpkg-deb", "-x", workspace.store.path(p), tree]);
    if (!(await isFile(`${tree}/${LOADER}`))) {
      throw new AppError("os-build/command-failed", `${lock.set} holds no ${LOADER}`);
    }
    await moveInto(tree, directory);
    return { directory };
  });
}

/** The argv that runs a program of the tree. */
export function treeArgv(tree: ToolTree, program: string, args: readonly string[]): string[] {
  const libraries = LIBRARIES.map((path) => `${tree.directory}/${path}`).join(":");
  return [
    `${tree.directory}/${LOADER}`,
    "--library-path",
    libraries,
    `${tree.directory}/${program}`,
    ...args,
  ];
}

/** Writes a shell wrapper that runs a program of the tree with `firstArgs` before the caller's. */
export async function writeTreeWrapper(
  wrapper: string,
  tree: ToolTree,
  program: string,
  firstArgs: readonly string[],
  variables: Readonly<Record<string, string>> = {},
): Promise<void> {
  const words = treeArgv(tree, program, firstArgs).map(shellWord).join(" \\\n  ");
  const exports = Object.entries(variables).map(([k, v]) => `export ${k}=${shellWord(v)}\n`).join(
    "",
  );
  await writeScript(wrapper, `#!/bin/sh\n${exports}exec ${words} "$@"\n`);
}

/** An executable written whole or not at all. */
export async function writeScript(path: string, text: string): Promise<void> {
  await writeFileAtomic(path, text, 0o755);
}

/** Removes trees of earlier locks, but for those a program still runs from. */
export async function removeOtherTrees(parent: string, kept: ToolTree): Promise<void> {
  const running = await runningPrograms();
  for (const name of await readdir(parent)) {
    const path = `${parent}/${name}`;
    if (path === kept.directory || !/-[0-9a-f]{12,16}$/.test(name)) continue;
    if (running.some((program) => program.startsWith(`${path}/`))) continue;
    await rm(path, { recursive: true, force: true });
  }
}

async function runningPrograms(): Promise<string[]> {
  const pids = (await readdir("/proc")).filter((name) => /^\d+$/.test(name));
  return await Promise.all(pids.map((pid) => readlink(`/proc/${pid}/exe`).catch(() => "")));
}

function shellWord(text: string): string {
  return /^[A-Za-z0-9_./:=@+-]+$/.test(text) ? text : `'${text.replaceAll("'", "'\\''")}'`;
}

async function isFile(path: string): Promise<boolean> {
  return await stat(path).then((found) => found.isFile(), () => false);
}
