import { type FileHandle, open } from "node:fs/promises";
import { join } from "node:path";
import { syncDirectory } from "#adapters/files.ts";
import { fromUtf8, toHex, utf8 } from "#core/bytes/bytes.ts";
import { JsonObject } from "#core/encoding/json-object.ts";
import { AppError } from "#core/errors/app-error.ts";
import type { LogHead, LogHeadStore } from "#functions/db/release-log.ts";

const NAME = "release-log-head";
/** A disk writes a sector whole or not at all. */
const SLOT = 512;

/**
 * The newest head of the release log, as a file of the key directory: who changes the database does not
 * reach it. Two slots are written in turn, in place, so that a write costs one sync and the one before
 * survives it; `close` it with the database.
 */
export async function openLogHeadFile(
  directory: string,
): Promise<LogHeadStore & { close(): Promise<void> }> {
  const path = join(directory, NAME);
  const file = await openOrCreate(path);
  const slots = await Promise.all([0, 1].map((slot) => readSlot(file, slot)));
  await syncDirectory(directory);
  let next = (slots[1]?.size ?? -1) > (slots[0]?.size ?? -1) ? 0 : 1;
  const { size } = await file.stat();
  return {
    read: () => {
      const [newest] = slots.filter((head) => head !== undefined).sort((a, b) => b.size - a.size);
      if (newest !== undefined || size === 0) return Promise.resolve(newest);
      return Promise.reject(new AppError("config/invalid", `${path} does not hold what it should`));
    },
    write: async ({ size, chainHash }) => {
      const text = JSON.stringify({ size, chain_hash: chainHash }).padEnd(SLOT - 1) + "\n";
      await file.write(utf8(text), 0, SLOT, next * SLOT);
      await file.datasync();
      next = 1 - next;
    },
    close: () => file.close(),
  };
}

async function openOrCreate(path: string): Promise<FileHandle> {
  await (await open(path, "a", 0o600)).close();
  return await open(path, "r+");
}

/** Undefined for a slot that was never written, or not to its end. */
async function readSlot(file: FileHandle, slot: number): Promise<LogHead | undefined> {
  const bytes = new Uint8Array(SLOT);
  const { bytesRead } = await file.read(bytes, 0, SLOT, slot * SLOT);
  if (bytesRead < SLOT) return undefined;
  try {
    const head = new JsonObject(JSON.parse(fromUtf8(bytes, NAME)), NAME);
    return {
      size: head.unsigned("size", Number.MAX_SAFE_INTEGER),
      chainHash: toHex(head.hex("chain_hash", 32)),
    };
  } catch {
    return undefined;
  }
}
