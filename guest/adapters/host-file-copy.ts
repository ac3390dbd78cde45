import { constants, type FileHandle, mkdir, open, rename, rm } from "node:fs/promises";
import { join } from "node:path";
import { AppError } from "#core/errors/app-error.ts";
import { HOST_FILES, type HostFileName, type HostFiles } from "../boot/host-files.ts";

/**
 * Copies the host's files out of a mounted share into `targetDir` (created 0700), each one as a fresh
 * 0600 file. The host writes the share while we read it: a file is opened once, without following
 * links and without waiting on a FIFO, must be a regular file, and at most its limit is read.
 * Throws `guest/host-file`.
 */
export async function copyHostFiles(shareDir: string, targetDir: string): Promise<HostFiles> {
  await mkdir(targetDir, { recursive: true, mode: 0o700 });
  const files = new Map<HostFileName, Uint8Array>();
  for (const { name, maxBytes, required } of HOST_FILES) {
    const content = await readHostFile(join(shareDir, name), name, maxBytes);
    if (content !== undefined) {
      await writeFresh(join(targetDir, name), content);
      files.set(name, content);
    } else if (required) {
      throw new AppError("guest/host-file", `The host's share lacks ${name}`);
    } else {
      await rm(join(targetDir, name), { force: true });
    }
  }
  return files;
}

async function readHostFile(
  path: string,
  name: string,
  maxBytes: number,
): Promise<Uint8Array | undefined> {
  let file: FileHandle;
  try {
    file = await open(path, constants.O_RDONLY | constants.O_NOFOLLOW | constants.O_NONBLOCK);
  } catch (cause) {
    const code = (cause as NodeJS.ErrnoException).code;
    if (code === "ENOENT") return undefined;
    const why = code === "ELOOP" ? "is a symbolic link" : "cannot be opened";
    throw new AppError("guest/host-file", `${name} on the host's share ${why}`, { cause });
  }
  try {
    if (!(await file.stat()).isFile()) {
      throw new AppError("guest/host-file", `${name} on the host's share is not a regular file`);
    }
    return await readAtMost(file, name, maxBytes);
  } finally {
    await file.close();
  }
}

/** Reads to the end whatever size was claimed; one byte over the limit is a refusal. */
async function readAtMost(file: FileHandle, name: string, maxBytes: number): Promise<Uint8Array> {
  let buffer = new Uint8Array(Math.min(64 * 1024, maxBytes + 1));
  let length = 0;
  for (;;) {
    const { bytesRead } = await file.read(buffer, length, buffer.length - length, null);
    if (bytesRead === 0) return buffer.slice(0, length);
    length += bytesRead;
    if (length > maxBytes) {
      throw new AppError(
        "guest/host-file",
        `${name} on the host's share has more than ${maxBytes} bytes`,
      );
    }
    if (length === buffer.length) {
      const bigger = new Uint8Array(Math.min(buffer.length * 4, maxBytes + 1));
      bigger.set(buffer);
      buffer = bigger;
    }
  }
}

async function writeFresh(path: string, content: Uint8Array): Promise<void> {
  const temporary = `${path}.new`;
  await rm(temporary, { force: true });
  const file = await open(
    temporary,
    constants.O_WRONLY | constants.O_CREAT | constants.O_EXCL | constants.O_NOFOLLOW,
    0o600,
  );
  try {
    await file.writeFile(content);
  } finally {
    await file.close();
  }
  await rename(temporary, path);
}
