import { stat } from "node:fs/promises";
import { dirname } from "node:path";
import process from "node:process";
import { isErrno, readFileIfExists } from "#adapters/files.ts";
import { fromUtf8 } from "#core/bytes/bytes.ts";
import type { SocketOwner } from "./line-socket.ts";

export interface Account extends SocketOwner {
  readonly user: string;
  readonly group: string;
}

const MAX_BYTES = 1024 * 1024;

/**
 * The account Debian's package made for HAProxy, which it changes to when root starts it; undefined
 * where there is none or this process is not root.
 */
export async function haproxyAccount(): Promise<Account | undefined> {
  if (process.getuid?.() !== 0) return undefined;
  const user = await entry("/etc/passwd", "haproxy");
  const group = await entry("/etc/group", "haproxy");
  const [uid, gid] = [Number(user?.[2]), Number(group?.[2])];
  return Number.isInteger(uid) && Number.isInteger(gid)
    ? { user: "haproxy", group: "haproxy", uid, gid }
    : undefined;
}

/** Whether every account may pass through `path` and the directories above it. */
export async function isReachableByOthers(path: string): Promise<boolean> {
  for (let directory = path;; directory = dirname(directory)) {
    try {
      if (((await stat(directory)).mode & 0o001) === 0) return false;
    } catch (error) {
      if (!isErrno(error, "ENOENT")) throw error; // not made yet: those above it decide
    }
    if (directory === dirname(directory)) return true;
  }
}

async function entry(path: string, name: string): Promise<string[] | undefined> {
  const bytes = await readFileIfExists(path, MAX_BYTES);
  const lines = bytes === undefined ? [] : fromUtf8(bytes, path).split("\n");
  return lines.map((line) => line.split(":")).find((fields) => fields[0] === name);
}
