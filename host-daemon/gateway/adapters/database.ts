import { mkdir } from "node:fs/promises";
import { dirname } from "node:path";
import { fileURLToPath } from "node:url";
import { openDatabase } from "#adapters/libsql.ts";
import { GatewayStore } from "#functions/db/gateway-rows.ts";
import * as schema from "#functions/db/gateway-schema.ts";

const MIGRATIONS = fileURLToPath(new URL("../../../migrations/gateway", import.meta.url));

/** The gateway's rows, in a file or on a libSQL server, brought to the present schema. */
export async function openGatewayStore(
  url: string,
  nodeId: number,
  now: () => Date,
): Promise<{ store: GatewayStore; close(): void }> {
  if (url.startsWith("file:")) {
    await mkdir(dirname(url.slice("file:".length)), { recursive: true, mode: 0o700 });
  }
  const { db, close } = await openDatabase({ url, migrationsFolder: MIGRATIONS, schema });
  return { store: new GatewayStore(db, nodeId, now), close };
}
