import { spawnSync } from "node:child_process";
import { closeSync, ftruncateSync, openSync, writeSync } from "node:fs";
import type { ImagePart } from "./fat32.ts";

/** Writes an image's parts to a sparse file. */
export function writeImage(path: string, parts: readonly ImagePart[], size: number): void {
  const fd = openSync(path, "w");
  ftruncateSync(fd, size);
  for (const part of parts) writeSync(fd, part.bytes, 0, part.bytes.length, part.offset);
  closeSync(fd);
}

/** Why a test of `command` is skipped, or false. */
export function missing(command: string): string | false {
  return spawnSync(command, ["--version"]).error === undefined ? false : `${command} is missing`;
}
