import { createHash } from "node:crypto";
import { createReadStream, createWriteStream } from "node:fs";
import { mkdir, open, readdir, readFile, rename, rm, writeFile } from "node:fs/promises";
import { pipeline } from "node:stream/promises";
import { gptFrame } from "../gpt.ts";
import type { VerityImage } from "./root-file-system.ts";
import { removeAbandoned } from "./scratch.ts";

/** The root file system as the one partition of a disk, under this name. */
export interface RootDisk {
  readonly name: string;
  readonly root: VerityImage;
}

/**
 * Makes `<out>/<name>` hold exactly these files and this disk. The folder appears complete and on disk or
 * not at all; one that is right already is left alone. Says whether it was written.
 */
export async function writeImageFolder(
  out: string,
  name: string,
  files: ReadonlyMap<string, Uint8Array>,
  disk: RootDisk,
): Promise<boolean> {
  await mkdir(out, { recursive: true });
  await removeAbandoned(out, /^\.(?:building|replaced)-.+\.(\d+)$/);
  if (await isPresent(`${out}/${name}`, files, disk)) return false;
  const work = `${out}/.building-${name}.${process.pid}`;
  try {
    await mkdir(work);
    for (const [file, bytes] of files) await writeFile(`${work}/${file}`, bytes);
    await pipeline(diskBytes(disk.root), createWriteStream(`${work}/${disk.name}`));
    await syncAll(work);
    await publish(work, out, name);
    return true;
  } finally {
    await rm(work, { recursive: true, force: true });
  }
}

/** Whether the folder holds exactly this image; a damaged one is built anew. */
async function isPresent(
  directory: string,
  files: ReadonlyMap<string, Uint8Array>,
  disk: RootDisk,
): Promise<boolean> {
  for (const [file, bytes] of files) {
    const there = await readFile(`${directory}/${file}`).catch(() => undefined);
    if (there === undefined || !there.equals(bytes)) return false;
  }
  const expected = createHash("sha256");
  for await (const chunk of diskBytes(disk.root)) expected.update(chunk);
  const actual = createHash("sha256");
  try {
    for await (const chunk of createReadStream(`${directory}/${disk.name}`)) {
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
