import { randomUUID } from "node:crypto";
import { open, rename, rm } from "node:fs/promises";
import { dirname } from "node:path";
import { AppError } from "#core/errors/app-error.ts";

/**
 * Replaces `path` in one step: readers see the old content or the new, also after a power failure.
 * The new file has `mode` from its first byte on; secrets keep the default.
 */
export async function writeFileAtomic(
  path: string,
  content: Uint8Array | string,
  mode = 0o600,
): Promise<void> {
  const temporary = `${path}.${randomUUID()}.tmp`;
  try {
    const file = await open(temporary, "wx", mode);
    try {
      await file.chmod(mode); // the umask may have taken bits away
      await file.writeFile(content);
      await file.sync();
    } finally {
      await file.close();
    }
    await rename(temporary, path);
  } catch (error) {
    await rm(temporary, { force: true });
    throw error;
  }
  await syncDirectory(dirname(path));
}

/** Makes renames and removals in `path` survive a power failure. */
export async function syncDirectory(path: string): Promise<void> {
  const directory = await open(path, "r");
  try {
    await directory.sync();
  } finally {
    await directory.close();
  }
}

/** The whole file, refused when it is longer than `maxBytes`; undefined when there is none. */
export async function readFileIfExists(
  path: string,
  maxBytes: number,
): Promise<Uint8Array | undefined> {
  let file;
  try {
    file = await open(path, "r");
  } catch (error) {
    if (isErrno(error, "ENOENT")) return undefined;
    throw error;
  }
  try {
    // One byte more than allowed: what is still growing, or has no size, is noticed too.
    const buffer = new Uint8Array(Math.min((await file.stat()).size, maxBytes) + 1);
    let chunks = buffer;
    let length = 0;
    for (;;) {
      const { bytesRead } = await file.read(chunks, length, chunks.length - length);
      if (bytesRead === 0) return chunks.slice(0, length);
      length += bytesRead;
      if (length > maxBytes) {
        throw new AppError(
          "input/too-large",
          `Cannot read ${path}: longer than ${maxBytes} bytes`,
        );
      }
      if (length === chunks.length) {
        const bigger = new Uint8Array(Math.min(chunks.length * 2, maxBytes + 1));
        bigger.set(chunks);
        chunks = bigger;
      }
    }
  } finally {
    await file.close();
  }
}

/** The whole file. Throws `resource/not-found` or `input/too-large`. */
export async function readFileBounded(path: string, maxBytes: number): Promise<Uint8Array> {
  const content = await readFileIfExists(path, maxBytes);
  if (content === undefined) throw new AppError("resource/not-found", `No file ${path}`);
  return content;
}

/** Whether `error` is the operating system's, of this code: `ENOENT`. */
export function isErrno(error: unknown, code: string): boolean {
  return error instanceof Error && "code" in error && error.code === code;
}
