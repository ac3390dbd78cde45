import { createHash } from "node:crypto";
import { createReadStream } from "node:fs";
import {
  appendFile,
  chmod,
  copyFile,
  lstat,
  mkdir,
  open,
  readdir,
  realpath,
  rename,
  rm,
  stat,
  truncate,
  unlink,
} from "node:fs/promises";
import { basename, dirname } from "node:path";
import { AppError } from "#core/errors/app-error.ts";
import type { ImagePart } from "../disk/fat32.ts";
import type { ImageFiles } from "../images/image-store.ts";
import type { HostFiles } from "../vmm/ports.ts";

/** The host's file system, for dstackd's own directories and its images. */
export const hostFiles: HostFiles & ImageFiles = {
  async readBytes(path, maxBytes) {
    const file = await openIfExists(path);
    if (file === undefined) return undefined;
    try {
      const { size } = await file.stat();
      if (size > maxBytes) {
        throw new AppError(
          "input/too-large",
          `${basename(path)} has ${size} bytes, at most ${maxBytes} are allowed`,
        );
      }
      return new Uint8Array(await file.readFile());
    } finally {
      await file.close();
    }
  },

  async readTail(path, maxBytes) {
    const file = await openIfExists(path);
    if (file === undefined) return undefined;
    try {
      const { size } = await file.stat();
      return await readAt(file, Math.max(0, size - maxBytes), maxBytes);
    } finally {
      await file.close();
    }
  },

  async readFrom(path, offset, maxBytes) {
    const file = await openIfExists(path);
    if (file === undefined) return new Uint8Array();
    try {
      return await readAt(file, offset, maxBytes);
    } finally {
      await file.close();
    }
  },

  writeAtomic(path, content, mode) {
    return replace(path, mode, async (file) => {
      await file.writeFile(content);
    });
  },

  writeImage(path, parts, lengthBytes, mode) {
    return replace(path, mode, async (file) => {
      await file.truncate(lengthBytes);
      for (const { offset, bytes } of parts as readonly ImagePart[]) {
        await file.write(bytes, 0, bytes.length, offset);
      }
    });
  },

  async patch(path, parts) {
    const file = await open(path, "r+");
    try {
      for (const { offset, bytes } of parts) await file.write(bytes, 0, bytes.length, offset);
      await file.sync();
    } finally {
      await file.close();
    }
  },

  async makeDirectory(path, mode) {
    await mkdir(path, { recursive: true, mode });
    await chmod(path, mode);
  },

  async exists(path) {
    return await ifExists(lstat(path)) !== undefined;
  },

  async sizeOf(path) {
    return (await ifExists(stat(path)))?.size ?? 0;
  },

  async remove(path) {
    await ifExists(unlink(path));
  },

  async removeTree(path) {
    await rm(path, { recursive: true, force: true });
  },

  async rotate(path, backups) {
    if (await ifExists(lstat(path)) === undefined) return;
    await shiftBackups(path, backups);
    if (backups === 0) await unlink(path);
    else await rename(path, `${path}.1`);
  },

  async rotateInPlace(path, backups) {
    await shiftBackups(path, backups);
    if (backups > 0) await copyFile(path, `${path}.1`);
    await truncate(path, 0);
  },

  async append(path, text) {
    await appendFile(path, text, { mode: 0o600 });
  },

  realPath(path) {
    return ifExists(realpath(path));
  },

  async isRegularFile(path) {
    return (await ifExists(lstat(path)))?.isFile() === true;
  },

  async sha256(path) {
    const hash = createHash("sha256");
    for await (const chunk of createReadStream(path)) hash.update(chunk as Uint8Array);
    return new Uint8Array(hash.digest());
  },

  async fingerprint(path) {
    const { dev, ino, size, mtimeNs, ctimeNs } = await stat(path, { bigint: true });
    return `${dev}:${ino}:${size}:${mtimeNs}:${ctimeNs}`;
  },

  async directories(path) {
    const entries = await ifExists(readdir(path, { withFileTypes: true })) ?? [];
    return entries.filter((entry) => entry.isDirectory() || entry.isSymbolicLink())
      .map((entry) => entry.name);
  },
};

/** Makes room for a new `path.1`. */
async function shiftBackups(path: string, backups: number): Promise<void> {
  for (let i = backups - 1; i >= 1; i--) {
    await ifExists(rename(`${path}.${i}`, `${path}.${i + 1}`));
  }
}

type FileHandle = Awaited<ReturnType<typeof open>>;

/**
 * Writes beside `path`, then renames: a reader sees the old content or the whole new one. A path has one
 * writer at a time.
 */
async function replace(
  path: string,
  mode: number,
  write: (file: FileHandle) => Promise<void>,
): Promise<void> {
  // One name: what a killed dstackd left half written is overwritten, not kept.
  const temporary = `${dirname(path)}/.${basename(path)}.tmp`;
  try {
    const file = await open(temporary, "w", mode);
    try {
      await write(file);
      await file.chmod(mode);
      await file.sync();
    } finally {
      await file.close();
    }
    await rename(temporary, path);
  } catch (cause) {
    await rm(temporary, { force: true });
    if (hasCode(cause, "ENOSPC")) {
      throw new AppError("resource/exhausted", `No space left to write ${basename(path)}`, {
        cause,
      });
    }
    throw cause;
  }
  const directory = await open(dirname(path), "r");
  try {
    await directory.sync();
  } finally {
    await directory.close();
  }
}

/** What is there from `offset` on: most calls follow a log that has not grown. */
async function readAt(file: FileHandle, offset: number, maxBytes: number): Promise<Uint8Array> {
  const { size } = await file.stat();
  const buffer = new Uint8Array(Math.max(0, Math.min(maxBytes, size - offset)));
  let length = 0;
  while (length < buffer.length) {
    const { bytesRead } = await file.read(buffer, length, buffer.length - length, offset + length);
    if (bytesRead === 0) break;
    length += bytesRead;
  }
  return buffer.slice(0, length);
}

async function openIfExists(path: string): Promise<FileHandle | undefined> {
  return await ifExists(open(path, "r"));
}

async function ifExists<T>(operation: Promise<T>): Promise<T | undefined> {
  try {
    return await operation;
  } catch (error) {
    if (hasCode(error, "ENOENT") || hasCode(error, "ENOTDIR")) return undefined;
    throw error;
  }
}

function hasCode(error: unknown, code: string): boolean {
  return error instanceof Error && "code" in error && error.code === code;
}
