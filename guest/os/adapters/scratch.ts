import { mkdir, readdir, rename, rm } from "node:fs/promises";
import { dirname } from "node:path";

/**
 * Runs `action` with an empty folder below `<cache>/scratch`, on the file system of the cache, so that
 * results can be renamed into place. The folder is gone afterwards; what killed builds left goes too.
 */
export async function withScratch<T>(
  cache: string,
  name: string,
  action: (directory: string) => Promise<T>,
): Promise<T> {
  const scratch = `${cache}/scratch`;
  await mkdir(scratch, { recursive: true });
  await removeAbandoned(scratch, /\.(\d+)$/);
  const directory = `${scratch}/${name}.${process.pid}`;
  await rm(directory, { recursive: true, force: true });
  await mkdir(directory);
  try {
    return await action(directory);
  } finally {
    await rm(directory, { recursive: true, force: true });
  }
}

/**
 * Moves a finished folder to where its content's hash says it belongs. When another build was faster,
 * its folder is as good and may be in use.
 */
export async function moveInto(finished: string, directory: string): Promise<void> {
  await mkdir(dirname(directory), { recursive: true });
  try {
    await rename(finished, directory);
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    if (code !== "ENOTEMPTY" && code !== "EEXIST") throw error;
  }
}

/** Removes what matches and carries, as its first group, the id of a process that is no more. */
export async function removeAbandoned(directory: string, pattern: RegExp): Promise<void> {
  for (const name of await readdir(directory)) {
    const pid = Number(pattern.exec(name)?.[1]);
    if (Number.isSafeInteger(pid) && pid !== process.pid && !isRunning(pid)) {
      await rm(`${directory}/${name}`, { recursive: true, force: true });
    }
  }
}

function isRunning(pid: number): boolean {
  try {
    process.kill(pid, 0);
    return true;
  } catch (error) {
    return (error as NodeJS.ErrnoException).code === "EPERM";
  }
}
