import { and, asc, desc, eq, inArray, lt, sql } from "drizzle-orm";
import type { LibSQLDatabase } from "drizzle-orm/libsql";
import * as schema from "./schema.ts";

const { cvmEvents, cvmRuns, cvms, simulatedTds } = schema;

export type Cvm = typeof cvms.$inferSelect;
export type CvmRun = typeof cvmRuns.$inferSelect;
export type CvmEvent = Pick<
  typeof cvmEvents.$inferSelect,
  "id" | "cvmId" | "event" | "body" | "timestampMs"
>;
export type SimulatedTd = typeof simulatedTds.$inferSelect;

/** Named queries over the host daemon's rows. */
export class CvmStore {
  readonly #db: LibSQLDatabase<typeof schema>;
  readonly #eventsKept: number;

  /** `eventsKept`: events remembered per CVM. */
  constructor(db: LibSQLDatabase<typeof schema>, eventsKept: number) {
    this.#db = db;
    this.#eventsKept = eventsKept;
  }

  allCvms(): Promise<Cvm[]> {
    return this.#db.select().from(cvms).orderBy(asc(cvms.createdAtMs), asc(cvms.id));
  }

  allRuns(): Promise<CvmRun[]> {
    return this.#db.select().from(cvmRuns);
  }

  async insertCvm(cvm: Cvm): Promise<void> {
    await this.#db.insert(cvms).values(cvm);
  }

  async updateCvm(id: string, change: Partial<Omit<Cvm, "id">>): Promise<void> {
    await this.#db.update(cvms).set(change).where(eq(cvms.id, id));
  }

  async deleteCvm(id: string): Promise<void> {
    await this.#db.transaction(async (tx) => {
      await tx.delete(simulatedTds).where(eq(simulatedTds.cvmId, id));
      await tx.delete(cvmEvents).where(eq(cvmEvents.cvmId, id));
      await tx.delete(cvmRuns).where(eq(cvmRuns.cvmId, id));
      await tx.delete(cvms).where(eq(cvms.id, id));
    });
  }

  async saveRun(run: CvmRun): Promise<void> {
    await this.#db.insert(cvmRuns).values(run)
      .onConflictDoUpdate({ target: cvmRuns.cvmId, set: run });
  }

  async endRun(cvmId: string, exitedAtMs: number): Promise<void> {
    await this.#db.update(cvmRuns).set({ exitedAtMs }).where(eq(cvmRuns.cvmId, cvmId));
  }

  async addEvent(event: Omit<CvmEvent, "id">): Promise<CvmEvent> {
    const [row] = await this.#db.insert(cvmEvents).values(event).returning();
    const oldest = await this.#db.select({ id: cvmEvents.id }).from(cvmEvents)
      .where(eq(cvmEvents.cvmId, event.cvmId))
      .orderBy(desc(cvmEvents.id)).limit(1).offset(this.#eventsKept);
    if (oldest[0] !== undefined) {
      await this.#db.delete(cvmEvents)
        .where(and(eq(cvmEvents.cvmId, event.cvmId), lt(cvmEvents.id, oldest[0].id + 1)));
    }
    return row!;
  }

  /** Oldest first. */
  eventsOf(ids: readonly string[]): Promise<CvmEvent[]> {
    return this.#db.select().from(cvmEvents)
      .where(inArray(cvmEvents.cvmId, [...ids])).orderBy(asc(cvmEvents.id));
  }

  async saveSimulatedTd(td: SimulatedTd): Promise<void> {
    await this.#db.insert(simulatedTds).values(td)
      .onConflictDoUpdate({ target: simulatedTds.cvmId, set: td });
  }

  async findSimulatedTd(cvmId: string): Promise<SimulatedTd | undefined> {
    const [row] = await this.#db.select().from(simulatedTds).where(eq(simulatedTds.cvmId, cvmId));
    return row;
  }

  /** Throws when the database does not answer. */
  async ping(): Promise<void> {
    await this.#db.run(sql`select 1`);
  }
}
