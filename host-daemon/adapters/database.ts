import { fileURLToPath } from "node:url";
import { openDatabase } from "#adapters/libsql.ts";
import * as schema from "../db/schema.ts";

const MIGRATIONS = fileURLToPath(new URL("../../migrations/host", import.meta.url));

/** dstackd's own rows: a file beside its other state. */
export async function openHostDatabase(path: string) {
  return await openDatabase({ url: `file:${path}`, migrationsFolder: MIGRATIONS, schema });
}

export type HostDatabase = Awaited<ReturnType<typeof openHostDatabase>>["db"];
