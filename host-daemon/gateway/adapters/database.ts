import { mkdir } from "node:fs/promises";
import { dirname } from "node:path";
import { fileURLToPath } from "node:url";
import { createClient } from "@libsql/client";
import { drizzle } from "drizzle-orm/libsql";
import { migrate } from "drizzle-orm/libsql/migrator";
import { GatewayStore } from "#functions/db/gateway-rows.ts";

const MIGRATIONS = fileURLToPath(new URL("../../../migrations/gateway", import.meta.url));

/** The gateway's rows, in a file or on a libSQL server, brought to the present schema. */
export async function openGatewayStore(
  url: string,
  nodeId: number,
  now: () => Date,
): Promise<{ store: GatewayStore; close(): void }> {
  const isFile = url.startsWith("file:");
  if (isFile) await mkdir(dirname(url.slice("file:".length)), { recursive: true, mode: 0o700 });
  const client = createClient({ url });
  if (isFile) {
    await client.execute("PRAGMA journal_mode = WAL");
    await client.execute("PRAGMA busy_timeout = 5000");
  }
  const db = drizzle(client);
  await migrate(db, { migrationsFolder: MIGRATIONS });
  return { store: new GatewayStore(db, nodeId, now), close: () => client.close() };
}
