import { and, desc, eq, lt } from "drizzle-orm";
import type { LibSQLDatabase } from "drizzle-orm/libsql";
import type * as schema from "./kms-schema.ts";
import { kmsDecisions } from "./kms-schema.ts";

export type KmsDecision = typeof kmsDecisions.$inferSelect;

export interface DecisionFilter {
  /** At most this many rows. */
  readonly limit: number;
  /** Only rows with a smaller id: the next page. */
  readonly before?: number | undefined;
  readonly appId?: string | undefined;
  readonly outcome?: "released" | "denied" | undefined;
}

/** The log of a KMS's decisions. Rows are added, never changed. */
export class KmsDecisionStore {
  readonly #db: LibSQLDatabase<typeof schema>;

  constructor(db: LibSQLDatabase<typeof schema>) {
    this.#db = db;
  }

  /** Resolves once the row is stored; returns its id. */
  async append(decision: Omit<KmsDecision, "id">): Promise<number> {
    const [row] = await this.#db.insert(kmsDecisions).values(decision)
      .returning({ id: kmsDecisions.id });
    return row!.id;
  }

  /** Newest first. */
  list(filter: DecisionFilter): Promise<KmsDecision[]> {
    const { before, appId, outcome } = filter;
    return this.#db.select().from(kmsDecisions).where(and(
      before === undefined ? undefined : lt(kmsDecisions.id, before),
      appId === undefined ? undefined : eq(kmsDecisions.appId, appId),
      outcome === undefined ? undefined : eq(kmsDecisions.outcome, outcome),
    )).orderBy(desc(kmsDecisions.id)).limit(filter.limit);
  }
}
