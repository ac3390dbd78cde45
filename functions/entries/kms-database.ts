import { mkdir } from "node:fs/promises";
import { dirname } from "node:path";
import { fileURLToPath } from "node:url";
import { openDatabase } from "#adapters/libsql.ts";
import { fromUtf8, toHex, utf8 } from "#core/bytes/bytes.ts";
import { JsonObject } from "#core/encoding/json-object.ts";
import { type LogHeadStore, ReleaseLog } from "#functions/db/release-log.ts";
import { EpochRegistry } from "#functions/db/kms-epochs.ts";
import * as schema from "#functions/db/kms-schema.ts";
import type { KeyFiles } from "#functions/kms/key-store.ts";

const LOG_HEAD = "release-log-head.json";
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

/** The newest head, as a file of the key directory: who changes the database does not reach it. */
export function logHeadFile(files: KeyFiles): LogHeadStore {
  return {
    read: async () => {
      const raw = await files.read(LOG_HEAD);
      if (raw === undefined) return undefined;
      const head = new JsonObject(JSON.parse(fromUtf8(raw, LOG_HEAD)), LOG_HEAD);
      return {
        size: head.unsigned("size", Number.MAX_SAFE_INTEGER),
        chainHash: toHex(head.hex("chain_hash", 32)),
      };
    },
    write: ({ size, chainHash }) =>
      files.write(LOG_HEAD, utf8(JSON.stringify({ size, chain_hash: chainHash })), 0o600),
  };
}
