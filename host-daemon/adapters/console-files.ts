import { readFileIfExists } from "#adapters/files.ts";
import { extname, join } from "node:path";
import { fileURLToPath } from "node:url";
import type { ConsoleFile } from "../api/app.ts";

/** Where `scripts/build-console` puts the page. */
const ROOT = fileURLToPath(new URL("../../dist/console", import.meta.url));
const MAX_FILE_BYTES = 4 * 1024 * 1024;
const CONTENT_TYPES: Readonly<Record<string, string>> = {
  ".html": "text/html; charset=utf-8",
  ".js": "text/javascript; charset=utf-8",
  ".css": "text/css; charset=utf-8",
  ".svg": "image/svg+xml",
};

/** `path` is one of the names the API routes, which hold no `..`. */
export async function readConsoleFile(path: string): Promise<ConsoleFile | undefined> {
  const contentType = CONTENT_TYPES[extname(path)];
  if (contentType === undefined) return undefined;
  const body = await readFileIfExists(join(ROOT, path), MAX_FILE_BYTES);
  return body === undefined ? undefined : { body, contentType };
}
