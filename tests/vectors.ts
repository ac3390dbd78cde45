import { existsSync, readFileSync } from "node:fs";
import { test } from "node:test";

/** Where the captured reference vectors are: `$DSTACK_VECTORS`, else beside the repository. */
const folder = process.env["DSTACK_VECTORS"] ??
  new URL("../../shared/vectors", import.meta.url).pathname;

export const hasVectors = existsSync(folder);

export function vectorPath(path: string): string {
  return `${folder}/${path}`;
}

export function vectorBytes(path: string): Uint8Array {
  return new Uint8Array(readFileSync(vectorPath(path)));
}

export function vectorText(path: string): string {
  return readFileSync(vectorPath(path), "utf8");
}

/** A test that needs captures; it says so and skips where they are missing. */
export function vectorTest(name: string, body: () => void | Promise<void>): void {
  if (hasVectors) test(name, body);
  else test(name, { skip: `skipped: no reference vectors (set DSTACK_VECTORS)` }, () => {});
}
