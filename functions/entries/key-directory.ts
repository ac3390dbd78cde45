import { mkdir, rm } from "node:fs/promises";
import { join } from "node:path";
import { readFileIfExists, syncDirectory, writeFileAtomic } from "#adapters/files.ts";
import type { KeyFiles } from "#functions/kms/key-store.ts";

/** Bootstrap info carries an attestation, everything else is small. */
const MAX_FILE_BYTES = 32 * 1024 * 1024;

/** The files of `core.cert_dir`, made for the owner only. */
export async function keyDirectory(path: string): Promise<KeyFiles> {
  await mkdir(path, { recursive: true, mode: 0o700 });
  return {
    read: (name) => readFileIfExists(join(path, name), MAX_FILE_BYTES),
    write: (name, content, mode) => writeFileAtomic(join(path, name), content, mode),
    remove: async (name) => {
      await rm(join(path, name), { force: true });
      await syncDirectory(path);
    },
  };
}
