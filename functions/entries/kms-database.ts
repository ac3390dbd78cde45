import { mkdir } from "node:fs/promises";
import { dirname } from "node:path";
import { fileURLToPath } from "node:url";
import { createClient } from "@libsql/client";
import { drizzle } from "drizzle-orm/libsql";
import { migrate } from "drizzle-orm/libsql/migrator";
import { KmsDecisionStore } from "#functions/db/kms-decisions.ts";

const MIGRATIONS = fileURLToPath(new URL("../../migrations/kms", import.meta.url));

/** The decision log in a file, brought to the present schema. */
export async function openKmsDatabase(
  path: string,
): Promise<{ decisions: KmsDecisionStore; close(): void }> {
  await mkdir(dirname(path), { recursive: true, mode: 0o700 });
  const client = createClient({ url: `file:${path}` });
  await client.execute("PRAGMA journal_mode = WAL");
  await client.execute("PRAGMA busy_timeout = 5000");
  const db = drizzle(client);
  await migrate(db, { migrationsFolder: MIGRATIONS });
  return { decisions: new KmsDecisionStore(db), close: () => client.close() };
}
