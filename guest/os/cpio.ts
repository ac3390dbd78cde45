import { AppError } from "#core/errors/app-error.ts";

/** A member of an initramfs; everything is owned by root, in time order 0. */
export interface CpioEntry {
  /** Relative to the root, without a leading slash. */
  readonly path: string;
  readonly type: "file" | "directory" | "symlink";
  /** Permission bits. */
  readonly mode: number;
  /** File bytes, or the UTF-8 target of a symlink. */
  readonly content: Uint8Array;
}

const TYPE_BITS = { file: 0o100000, directory: 0o040000, symlink: 0o120000 } as const;
const TRAILER = "TRAILER!!!";

/**
 * Writes a "newc" archive (Linux Documentation/driver-api/early-userspace/buffer-format.rst): members
 * sorted by path, inodes numbered in that order, owner and times zero.
 */
export function encodeCpio(entries: readonly CpioEntry[]): Uint8Array {
  const sorted = [...entries].sort((a, b) => (a.path < b.path ? -1 : 1));
  for (let i = 1; i < sorted.length; i++) {
    if (sorted[i]!.path === sorted[i - 1]!.path) {
      throw new AppError("os-build/image-invalid", `The initramfs holds ${sorted[i]!.path} twice`);
    }
  }
  const members = [
    ...sorted.map((e, i) => member(i + 1, e.path, TYPE_BITS[e.type] | e.mode, e.content)),
    member(0, TRAILER, 0, new Uint8Array(0)),
  ];
  const length = members.reduce((sum, m) => sum + m.length, 0);
  const archive = new Uint8Array(Math.ceil(length / 512) * 512);
  let at = 0;
  for (const bytes of members) {
    archive.set(bytes, at);
    at += bytes.length;
  }
  return archive;
}

function member(inode: number, path: string, mode: number, content: Uint8Array): Uint8Array {
  const name = new TextEncoder().encode(`${path}\0`);
  const links = (mode & 0o170000) === TYPE_BITS.directory ? 2 : 1;
  const fields = [inode, mode, 0, 0, links, 0, content.length, 0, 0, 0, 0, name.length, 0];
  const header = "070701" +
    fields.map((value) => value.toString(16).toUpperCase().padStart(8, "0")).join("");
  const bodyAt = align4(header.length + name.length);
  const bytes = new Uint8Array(align4(bodyAt + content.length));
  bytes.set(new TextEncoder().encode(header));
  bytes.set(name, header.length);
  bytes.set(content, bodyAt);
  return bytes;
}

function align4(length: number): number {
  return (length + 3) & ~3;
}
