import process from "node:process";
import { open, readFile, rm } from "node:fs/promises";
import { setTimeout as sleep } from "node:timers/promises";

/** The part of Deno this file uses: flock(2), which Node has no call for. */
interface DenoLocks {
  open(
    path: string,
    options: { read: boolean; write: boolean; create: boolean; mode: number },
  ): Promise<{ lock(exclusive: boolean): Promise<void>; close(): void }>;
}

/**
 * Runs `action` while this process alone holds the lock file. In the guest that is flock(2), which ends
 * with its holder; under Node (tests, tools) a file that exists as long as its holder does.
 */
export async function withFileLock<T>(
  path: string,
  action: () => Promise<T>,
  options: { readonly create: boolean } = { create: true },
): Promise<T> {
  const deno = (globalThis as { Deno?: DenoLocks }).Deno;
  if (deno === undefined) return await withExclusiveFile(`${path}.held`, action);
  const file = await deno.open(path, {
    read: true,
    write: options.create,
    create: options.create,
    mode: 0o600,
  });
  try {
    await file.lock(true);
    return await action();
  } finally {
    file.close();
  }
}

async function withExclusiveFile<T>(path: string, action: () => Promise<T>): Promise<T> {
  for (;;) {
    try {
      const file = await open(path, "wx", 0o600);
      await file.writeFile(String(process.pid));
      await file.close();
      break;
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== "EEXIST") throw error;
    }
    const holder = await readFile(path, "utf8").catch(() => "");
    const isGone = holder !== "" &&
      await readFile(`/proc/${holder}/stat`).then(() => false, () => true);
    if (isGone) await rm(path, { force: true });
    else await sleep(5);
  }
  try {
    return await action();
  } finally {
    await rm(path, { force: true });
  }
}
