import { mkdir } from "node:fs/promises";
import { dirname } from "node:path";
import { fileURLToPath } from "node:url";
import { openDatabase } from "#adapters/libsql.ts";
import { KmsDecisionStore } from "#functions/db/kms-decisions.ts";
import * as schema from "#functions/db/kms-schema.ts";

const MIGRATIONS = fileURLToPath(new URL("../../migrations/kms", import.meta.url));

/** The decision log at `location`: a file, or a libSQL server's URL. */
export async function openKmsDatabase(
  location: string,
): Promise<{ decisions: KmsDecisionStore; close(): void }> {
  const isServer = /^(https?|wss?|libsql):/.test(location);
  if (!isServer) await mkdir(dirname(location), { recursive: true, mode: 0o700 });
  const database = await openDatabase({
    url: isServer ? location : `file:${location}`,
    migrationsFolder: MIGRATIONS,
    schema,
  });
  return { decisions: new KmsDecisionStore(database.db), close: database.close };
}
