import { fileURLToPath } from "node:url";
import { readFileIfExists } from "#adapters/files.ts";

/** Where `vite build host-daemon/console` puts the page, script and style inside. */
const PAGE = fileURLToPath(new URL("../../dist/console/index.html", import.meta.url));
const MAX_PAGE_BYTES = 4 * 1024 * 1024;

export async function readConsolePage(): Promise<Uint8Array | undefined> {
  return await readFileIfExists(PAGE, MAX_PAGE_BYTES);
}
