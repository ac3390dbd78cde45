import { chmod, mkdir, readdir, readFile, rename, rm, stat, writeFile } from "node:fs/promises";
import { AppError } from "#core/errors/app-error.ts";
import type { PackageLock } from "../lock.ts";
import { command } from "./command.ts";
import type { PackageStore } from "./package-store.ts";

const LIBRARIES = ["usr/lib/x86_64-linux-gnu", "usr/lib"];
const LOADER = "usr/lib/x86_64-linux-gnu/ld-linux-x86-64.so.2";

/** Programs unpacked from packages, run by their own loader: nothing of the machine's libc is used. */
export interface ToolTree {
  /** Absolute. */
  readonly directory: string;
}

/**
 * Unpacks the packages of a lock into `directory`. The stamp is written last, so a tree is either
 * whole or rebuilt; the same lock finds the same tree.
 */
export async function unpackToolTree(
  directory: string,
  lock: PackageLock,
  store: PackageStore,
): Promise<ToolTree> {
  const stamp = lock.packages.map((p) => `${p.name} ${p.sha256}\n`).join("");
  const stampFile = `${directory}/.stamp`;
  if (await readFile(stampFile, "utf8").catch(() => "") === stamp) return { directory };
  const temporary = `${directory}.${process.pid}.tmp`;
  await rm(temporary, { recursive: true, force: true });
  try {
    await mkdir(temporary, { recursive: true });
    for (const p of lock.packages) await command(["dpkg-deb", "-x", store.path(p), temporary]);
    if (!(await isFile(`${temporary}/${LOADER}`))) {
      throw new AppError("os-build/command-failed", `${lock.set} holds no ${LOADER}`);
    }
    await writeFile(`${temporary}/.stamp`, stamp);
    await rm(directory, { recursive: true, force: true });
    await rename(temporary, directory);
  } finally {
    await rm(temporary, { recursive: true, force: true });
  }
  return { directory };
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
  const temporary = `${path}.${process.pid}.tmp`;
  await writeFile(temporary, text);
  await chmod(temporary, 0o755);
  await rename(temporary, path);
}

/** Removes trees of earlier locks; `keep` are directory names. */
export async function removeOtherTrees(
  parent: string,
  prefix: string,
  keep: readonly string[],
): Promise<void> {
  for (const name of await readdir(parent)) {
    if (name.startsWith(prefix) && !keep.includes(name)) {
      await rm(`${parent}/${name}`, { recursive: true, force: true });
    }
  }
}

function shellWord(text: string): string {
  return /^[A-Za-z0-9_./:=@+-]+$/.test(text) ? text : `'${text.replaceAll("'", "'\\''")}'`;
}

async function isFile(path: string): Promise<boolean> {
  return await stat(path).then((found) => found.isFile(), () => false);
}
