import type { Client, InStatement, Transaction } from "@libsql/client";
import { and, asc, desc, eq, gt, gte, lt } from "drizzle-orm";
import type { LibSQLDatabase } from "drizzle-orm/libsql";
import { fromHex, toHex } from "#core/bytes/bytes.ts";
import { merkleRoot, type Subtree } from "#core/crypto/merkle-tree.ts";
import { AppError } from "#core/errors/app-error.ts";
import {
  CHAIN_START,
  type ChainedDecision,
  type DecisionFilter,
  decisionLeafHash,
  decisionToJson,
  type KmsDecision,
  type NewDecision,
  nextChainHash,
} from "./kms-decisions.ts";
import type * as schema from "./kms-schema.ts";
import { kmsDecisions, kmsLogTiles } from "./kms-schema.ts";

/** Where a log ends: how many entries, and the chain hash of the last. */
export interface LogHead {
  readonly size: number;
  /** 32 bytes, hex. */
  readonly chainHash: string;
}

/** Keeps the newest head this KMS saw, apart from the database; both calls are durable. */
export interface LogHeadStore {
  readonly read: () => Promise<LogHead | undefined>;
  readonly write: (head: LogHead) => Promise<void>;
}

export interface ReleaseLogOptions {
  readonly db: LibSQLDatabase<typeof schema>;
  readonly client: Client;
  readonly heads: LogHeadStore;
}

const TILE = 256;
const PAGE = 2000;
/** Decisions stored by one commit, and those that may wait for theirs. */
const MAX_BATCH = 256;
const MAX_WAITING = 4096;

interface Waiting {
  readonly decision: NewDecision;
  readonly resolve: (id: number) => void;
  readonly reject: (error: unknown) => void;
}

/**
 * The log of a KMS's decisions: append-only, hash-chained, a Merkle tree over it. Open it with `open`,
 * which refuses a log that was cut or edited since this KMS last wrote to it.
 */
export class ReleaseLog {
  readonly #options: ReleaseLogOptions;
  #head: LogHead;
  #waiting: Waiting[] = [];
  #writing = false;

  private constructor(options: ReleaseLogOptions, head: LogHead) {
    this.#options = options;
    this.#head = head;
  }

  /** Checks every entry. Throws `kms/not-ready`, reason `kms/log-damaged`. */
  static async open(options: ReleaseLogOptions): Promise<ReleaseLog> {
    const known = await options.heads.read();
    if (known === undefined) await adoptUnchained(options);
    const head = await verifyLog(options.db, known);
    if (head.size > 0) await options.heads.write(head);
    return new ReleaseLog(options, head);
  }

  /** The newest entry this process knows. */
  get head(): LogHead {
    return this.#head;
  }

  /**
   * Resolves with the entry's id once it is stored and this KMS cannot forget it. Decisions that come
   * at the same time share a commit. Throws `resource/exhausted` when too many wait.
   */
  append(decision: NewDecision): Promise<number> {
    if (this.#waiting.length >= MAX_WAITING) {
      return Promise.reject(
        new AppError("resource/exhausted", "Too many decisions wait to be stored"),
      );
    }
    const { promise, resolve, reject } = Promise.withResolvers<number>();
    this.#waiting.push({ decision, resolve, reject });
    if (!this.#writing) void this.#writeWaiting();
    return promise;
  }

  async #writeWaiting(): Promise<void> {
    this.#writing = true;
    try {
      while (this.#waiting.length > 0) {
        const batch = this.#waiting.splice(0, MAX_BATCH);
        try {
          const head = await this.#store(batch.map(({ decision }) => decision));
          await this.#options.heads.write(head);
          this.#head = head;
          for (const [i, { resolve }] of batch.entries()) resolve(head.size - batch.length + 1 + i);
        } catch (error) {
          for (const { reject } of batch) reject(error);
        }
      }
    } finally {
      this.#writing = false;
    }
  }

  async #store(decisions: readonly NewDecision[]): Promise<LogHead> {
    const { client, db } = this.#options;
    const transaction = await client.transaction("write");
    try {
      let { size, chainHash } = await this.#requireKnown(transaction);
      const recent = await leavesSince(transaction, size - size % TILE);
      const statements: InStatement[] = [];
      for (const decision of decisions) {
        size++;
        const row = { ...decision, id: size };
        const leaf = decisionLeafHash(decisionToJson(row));
        chainHash = nextChainHash(chainHash, leaf);
        recent.push(leaf);
        const insert = db.insert(kmsDecisions).values({ ...row, leafHash: toHex(leaf), chainHash });
        statements.push(statementOf(insert.toSQL()));
        if (size % TILE !== 0) continue;
        const tile = { tile: size / TILE - 1, hash: toHex(merkleRoot(recent.splice(0))) };
        statements.push(statementOf(db.insert(kmsLogTiles).values(tile).toSQL()));
      }
      await transaction.batch(statements);
      await transaction.commit();
      return { size, chainHash };
    } finally {
      transaction.close();
    }
  }

  /** The log's end in the database, after checking that what this process saw is still there. */
  async #requireKnown(transaction: Transaction): Promise<LogHead> {
    const known = this.#head;
    const { rows } = await transaction.execute({
      sql: "SELECT id, chain_hash FROM kms_decisions WHERE id >= ? ORDER BY id DESC LIMIT 1",
      args: [known.size],
    });
    const [last] = rows;
    if (last === undefined) {
      if (known.size === 0) return known;
      throw damaged(`entry ${known.size} is no longer there`);
    }
    const head = { size: Number(last["id"]), chainHash: String(last["chain_hash"]) };
    const atKnown = head.size === known.size || known.size === 0
      ? head
      : await headAt(transaction, known.size);
    if (known.size > 0 && atKnown?.chainHash !== known.chainHash) {
      throw damaged(`entry ${known.size} is another one than before`);
    }
    return head;
  }

  /** Newest first. */
  async list(filter: DecisionFilter): Promise<KmsDecision[]> {
    const { before, appId, outcome } = filter;
    return await this.#options.db.select().from(kmsDecisions).where(and(
      before === undefined ? undefined : lt(kmsDecisions.id, before),
      appId === undefined ? undefined : eq(kmsDecisions.appId, appId),
      outcome === undefined ? undefined : eq(kmsDecisions.outcome, outcome),
    )).orderBy(desc(kmsDecisions.id)).limit(filter.limit);
  }

  /** The end of the log as the database has it now. */
  async currentHead(): Promise<LogHead> {
    const [last] = await this.#options.db.select().from(kmsDecisions)
      .orderBy(desc(kmsDecisions.id)).limit(1);
    return last === undefined
      ? { size: 0, chainHash: CHAIN_START }
      : { size: last.id, chainHash: last.chainHash };
  }

  /** Leaf hashes from leaf `start` (the first is 0), at most `limit`. */
  async leafHashes(start: number, limit: number): Promise<Uint8Array[]> {
    const rows = await this.#options.db.select({ hash: kmsDecisions.leafHash }).from(kmsDecisions)
      .where(gt(kmsDecisions.id, start)).orderBy(asc(kmsDecisions.id)).limit(limit);
    return rows.map(({ hash }) => fromHex(hash, "leaf hash", 32));
  }

  /** For proofs; `start` as the tree's shape has it. */
  readonly subtree: Subtree = async (start, end) => {
    if (end - start < TILE) return merkleRoot(await this.leafHashes(start, end - start));
    const lastTile = Math.floor(end / TILE);
    const tiles = await this.#options.db.select().from(kmsLogTiles)
      .where(and(gte(kmsLogTiles.tile, start / TILE), lt(kmsLogTiles.tile, lastTile)))
      .orderBy(asc(kmsLogTiles.tile));
    const nodes = tiles.map(({ hash }) => fromHex(hash, "tile hash", 32));
    const rest = end - lastTile * TILE;
    if (rest > 0) nodes.push(merkleRoot(await this.leafHashes(lastTile * TILE, rest)));
    return merkleRoot(nodes);
  };

  /** The Merkle root of the first `size` entries. */
  root(size: number): Promise<Uint8Array> {
    return size === 0 ? Promise.resolve(merkleRoot([])) : this.subtree(0, size);
  }
}

/** Reads the whole log. Throws `kms/not-ready`, reason `kms/log-damaged` unless it is one chain that goes through `known`. */
async function verifyLog(
  db: LibSQLDatabase<typeof schema>,
  known: LogHead | undefined,
): Promise<LogHead> {
  let head: LogHead = { size: 0, chainHash: CHAIN_START };
  let leaves: Uint8Array[] = [];
  const tiles: string[] = [];
  for (;;) {
    const rows: ChainedDecision[] = await db.select().from(kmsDecisions)
      .where(gt(kmsDecisions.id, head.size)).orderBy(asc(kmsDecisions.id)).limit(PAGE);
    if (rows.length === 0) break;
    for (const row of rows) {
      const id = head.size + 1;
      if (row.id !== id) throw damaged(`entry ${id} is missing`);
      const leaf = decisionLeafHash(decisionToJson(row));
      const chainHash = nextChainHash(head.chainHash, leaf);
      if (toHex(leaf) !== row.leafHash || chainHash !== row.chainHash) {
        throw damaged(`entry ${id} was edited`);
      }
      head = { size: id, chainHash };
      if (known?.size === id && known.chainHash !== chainHash) {
        throw damaged(`entry ${id} is another one than before`);
      }
      leaves.push(leaf);
      if (leaves.length < TILE) continue;
      tiles.push(toHex(merkleRoot(leaves)));
      leaves = [];
    }
  }
  if (known !== undefined && head.size < known.size) {
    throw damaged(`it ends at entry ${head.size}, and entry ${known.size} was stored before`);
  }
  const stored = await db.select().from(kmsLogTiles).orderBy(asc(kmsLogTiles.tile));
  const same = stored.length === tiles.length &&
    stored.every(({ tile, hash }, index) => tile === index && hash === tiles[index]);
  if (!same) throw damaged("its tree is not that of its entries");
  return head;
}

/** Chains the entries of a version that had no chain, once: as soon as one is chained, all are. */
async function adoptUnchained({ client, db }: ReleaseLogOptions): Promise<void> {
  const rows = await db.select().from(kmsDecisions).orderBy(asc(kmsDecisions.id));
  if (rows.length === 0 || rows.some(({ chainHash }) => chainHash !== "")) return;
  let chainHash = CHAIN_START;
  const leaves: Uint8Array[] = [];
  const statements: InStatement[] = [];
  for (const row of rows) {
    const leaf = decisionLeafHash(decisionToJson(row));
    chainHash = nextChainHash(chainHash, leaf);
    leaves.push(leaf);
    statements.push({
      sql: "UPDATE kms_decisions SET leaf_hash = ?, chain_hash = ? WHERE id = ?",
      args: [toHex(leaf), chainHash, row.id],
    });
    if (leaves.length < TILE) continue;
    const tile = { tile: row.id / TILE - 1, hash: toHex(merkleRoot(leaves.splice(0))) };
    statements.push(statementOf(db.insert(kmsLogTiles).values(tile).toSQL()));
  }
  await client.batch(statements, "write");
}

async function headAt(transaction: Transaction, size: number): Promise<LogHead | undefined> {
  const { rows } = await transaction.execute({
    sql: "SELECT chain_hash FROM kms_decisions WHERE id = ?",
    args: [size],
  });
  return rows[0] && { size, chainHash: String(rows[0]["chain_hash"]) };
}

/** The leaves after the last whole tile. */
async function leavesSince(transaction: Transaction, size: number): Promise<Uint8Array[]> {
  const { rows } = await transaction.execute({
    sql: "SELECT leaf_hash FROM kms_decisions WHERE id > ? ORDER BY id",
    args: [size],
  });
  return rows.map((row) => fromHex(String(row["leaf_hash"]), "leaf hash", 32));
}

function statementOf({ sql, params }: { sql: string; params: unknown[] }): InStatement {
  return { sql, args: params as Exclude<InStatement, string>["args"] & unknown[] };
}

function damaged(what: string): AppError {
  return new AppError("kms/not-ready", `The release log was cut or edited: ${what}`, {
    fields: { reason: "kms/log-damaged" },
  });
}
