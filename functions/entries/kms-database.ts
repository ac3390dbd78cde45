import { mkdir } from "node:fs/promises";
import { dirname } from "node:path";
import { fileURLToPath } from "node:url";
import { openDatabase } from "#adapters/libsql.ts";
import { type LogHeadStore, ReleaseLog } from "#functions/db/release-log.ts";
import { EpochRegistry } from "#functions/db/kms-epochs.ts";
import * as schema from "#functions/db/kms-schema.ts";

const MIGRATIONS = fileURLToPath(new URL("../../migrations/kms", import.meta.url));

/**
 * The release log at `location`: a file, or a libSQL server's URL; `authToken` is for the server.
 * Throws `kms/log-damaged`.
 */
export async function openKmsDatabase(
  location: string,
  heads: LogHeadStore,
  authToken?: string,
): Promise<{ decisions: ReleaseLog; epochs: EpochRegistry; close(): void }> {
  const isServer = /^(https?|wss?|libsql):/.test(location);
  if (!isServer) await mkdir(dirname(location), { recursive: true, mode: 0o700 });
  const { db, client, close } = await openDatabase({
    url: isServer ? location : `file:${location}`,
    ...authToken !== undefined && { authToken },
    migrationsFolder: MIGRATIONS,
    schema,
  });
  try {
    const decisions = await ReleaseLog.open({ db, client, heads });
    return { decisions, epochs: new EpochRegistry(db), close };
  } catch (error) {
    close();
    throw error;
  }
}
