import { and, asc, eq, sql } from "drizzle-orm";
import type { LibSQLDatabase } from "drizzle-orm/libsql";
import type * as schema from "./kms-schema.ts";
import { kmsEpochs, kmsInstanceEpochs } from "./kms-schema.ts";

/** The public halves of an epoch, hex. */
export type EpochRow = typeof kmsEpochs.$inferSelect;

/** What the KMSs of a deployment agree on about epochs of their root keys. */
export class EpochRegistry {
  readonly #db: LibSQLDatabase<typeof schema>;

  constructor(db: LibSQLDatabase<typeof schema>) {
    this.#db = db;
  }

  list(): Promise<EpochRow[]> {
    return this.#db.select().from(kmsEpochs).orderBy(asc(kmsEpochs.epoch));
  }

  /** The epoch as it stands after the call: of those who register one at once, the first wins. */
  async register(row: EpochRow): Promise<EpochRow> {
    await this.#db.insert(kmsEpochs).values(row).onConflictDoNothing();
    const [stored] = await this.#db.select().from(kmsEpochs).where(eq(kmsEpochs.epoch, row.epoch));
    return stored!;
  }

  /** Up to which epoch an instance has re-wrapped; 0 for one that never said. */
  async rewrapped(appId: string, instanceId: string): Promise<number> {
    const [row] = await this.#db.select().from(kmsInstanceEpochs).where(and(
      eq(kmsInstanceEpochs.appId, appId),
      eq(kmsInstanceEpochs.instanceId, instanceId),
    ));
    return row?.epoch ?? 0;
  }

  /** Never goes back. */
  async setRewrapped(appId: string, instanceId: string, epoch: number, nowMs: number) {
    await this.#db.insert(kmsInstanceEpochs)
      .values({ appId, instanceId, epoch, updatedAtMs: nowMs })
      .onConflictDoUpdate({
        target: [kmsInstanceEpochs.appId, kmsInstanceEpochs.instanceId],
        set: { epoch, updatedAtMs: nowMs },
        setWhere: sql`${kmsInstanceEpochs.epoch} < ${epoch}`,
      });
  }
}
