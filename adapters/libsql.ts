import { createHash } from "node:crypto";
import { open, readdir, readFile } from "node:fs/promises";
import { join } from "node:path";
import {
  type Client,
  createClient,
  type InArgs,
  type InStatement,
  type ResultSet,
  type Transaction,
  type TransactionMode,
} from "@libsql/client";
import { drizzle, type LibSQLDatabase } from "drizzle-orm/libsql";
import { AppError } from "#core/errors/app-error.ts";

export interface DatabaseOptions<S extends Record<string, unknown>> {
  /** `file:state/host.db`, or a libSQL server: `http://127.0.0.1:8080`. */
  readonly url: string;
  /** For a server that asks for one. */
  readonly authToken?: string;
  /** Folder of SQL files made by drizzle-kit: `migrations/kms`. */
  readonly migrationsFolder: string;
  readonly schema: S;
}

export interface OpenDatabase<S extends Record<string, unknown>> {
  readonly db: LibSQLDatabase<S>;
  readonly client: Client;
  close(): void;
}

/**
 * Opens a database and brings it to the newest schema. A file is created with mode 0600 and kept in
 * WAL mode, foreign keys enforced, each commit durable before it is reported.
 */
export async function openDatabase<S extends Record<string, unknown>>(
  options: DatabaseOptions<S>,
): Promise<OpenDatabase<S>> {
  const { url, authToken, migrationsFolder, schema } = options;
  const client = url.startsWith("file:")
    ? await openFile(url)
    : createClient({ url, ...authToken !== undefined && { authToken } });
  try {
    await migrateDatabase(client, migrationsFolder);
  } catch (error) {
    client.close();
    throw error;
  }
  return { db: drizzle(client, { schema }), client, close: () => client.close() };
}

async function openFile(url: string): Promise<Client> {
  const path = url.slice("file:".length);
  if (!path.startsWith(":memory:")) await (await open(path, "a", 0o600)).close();
  const client = new SingleConnection(createClient({ url, concurrency: 1, timeout: 5000 }));
  await client.execute("PRAGMA journal_mode = WAL");
  await client.execute("PRAGMA synchronous = FULL");
  await client.execute("PRAGMA foreign_keys = ON");
  return client;
}

/** Longest wait for a transaction of this process to end. */
const MAX_WAIT_MS = 30_000;

/**
 * A local database behind one connection. The library's statements block the thread, so a second
 * connection would wait for a lock that its own thread cannot release, and with one connection the
 * library refuses statements while a transaction is open: here they wait for their turn.
 */
class SingleConnection implements Client {
  readonly #inner: Client;
  #last: Promise<void> = Promise.resolve();

  constructor(inner: Client) {
    this.#inner = inner;
  }

  get closed(): boolean {
    return this.#inner.closed;
  }
  get protocol(): string {
    return this.#inner.protocol;
  }

  execute(statement: InStatement | string, args?: InArgs): Promise<ResultSet> {
    return this.#alone(() =>
      typeof statement === "string" && args !== undefined
        ? this.#inner.execute(statement, args)
        : this.#inner.execute(statement)
    );
  }
  batch(statements: (InStatement | [string, InArgs?])[], mode?: TransactionMode) {
    return this.#alone(() => this.#inner.batch(statements, mode));
  }
  migrate(statements: InStatement[]): Promise<ResultSet[]> {
    return this.#alone(() => this.#inner.migrate(statements));
  }
  executeMultiple(sql: string): Promise<void> {
    return this.#alone(() => this.#inner.executeMultiple(sql));
  }
  sync() {
    return this.#inner.sync();
  }
  reconnect(): void {
    this.#inner.reconnect();
  }
  close(): void {
    this.#inner.close();
  }

  async transaction(mode?: TransactionMode): Promise<Transaction> {
    const done = await this.#turn();
    let inner: Transaction;
    try {
      inner = await this.#inner.transaction(mode ?? "write");
    } catch (error) {
      done();
      throw error;
    }
    const ending = <T>(end: () => Promise<T>) => async () => {
      try {
        return await end();
      } finally {
        if (inner.closed) done();
      }
    };
    return {
      get closed() {
        return inner.closed;
      },
      execute: (statement) => inner.execute(statement),
      batch: (statements) => inner.batch(statements),
      executeMultiple: (sql) => inner.executeMultiple(sql),
      commit: ending(() => inner.commit()),
      rollback: ending(() => inner.rollback()),
      close() {
        inner.close();
        done();
      },
    };
  }

  async #alone<T>(work: () => Promise<T>): Promise<T> {
    const done = await this.#turn();
    try {
      return await work();
    } finally {
      done();
    }
  }

  /** Resolves when everyone before has finished; the result tells those after to go on. */
  async #turn(): Promise<() => void> {
    const before = this.#last;
    const mine = Promise.withResolvers<void>();
    this.#last = before.then(() => mine.promise);
    let timer: ReturnType<typeof setTimeout> | undefined;
    const tooLong = new Promise<never>((_, reject) => {
      timer = setTimeout(() => {
        mine.resolve();
        reject(new AppError("internal", `A transaction held the database over ${MAX_WAIT_MS} ms`));
      }, MAX_WAIT_MS);
    });
    try {
      await Promise.race([before, tooLong]);
    } finally {
      clearTimeout(timer);
    }
    return mine.resolve;
  }
}

const MIGRATIONS_TABLE = `CREATE TABLE IF NOT EXISTS __migrations (
  name TEXT PRIMARY KEY NOT NULL,
  sha256 TEXT NOT NULL,
  applied_at_ms INTEGER NOT NULL
)`;

/**
 * Applies the `NNNN_name.sql` files of a folder that the database lacks, in order, each whole or not
 * at all. Refuses a file edited since it was applied, and a database that is ahead of this program.
 */
export async function migrateDatabase(client: Client, folder: string): Promise<void> {
  const files = (await readdir(folder)).filter((name) => /^\d{4}_.+\.sql$/.test(name)).sort();
  await client.execute(MIGRATIONS_TABLE);
  const applied = await appliedMigrations(client);
  for (const name of applied.keys()) {
    if (!files.includes(name)) {
      throw new AppError(
        "resource/conflict",
        `Cannot use the database: migration ${name} is from a newer version of this program`,
      );
    }
  }
  for (const name of files) {
    const sql = await readFile(join(folder, name), "utf8");
    const sha256 = createHash("sha256").update(sql).digest("hex");
    if (applied.has(name)) requireUnchanged(name, sha256, applied.get(name));
    else await applyMigration(client, name, sql, sha256);
  }
}

async function applyMigration(
  client: Client,
  name: string,
  sql: string,
  sha256: string,
): Promise<void> {
  const statements = sql.split("--> statement-breakpoint").map((part) => part.trim())
    .filter((part) => part !== "");
  const record = {
    sql: "INSERT INTO __migrations (name, sha256, applied_at_ms) VALUES (?, ?, ?)",
    args: [name, sha256, Date.now()],
  };
  try {
    await client.migrate([...statements, record]);
  } catch (cause) {
    // Another process may have applied it at the same moment.
    const theirs = (await appliedMigrations(client)).get(name);
    if (theirs !== undefined) return requireUnchanged(name, sha256, theirs);
    throw new AppError("internal", `Cannot apply migration ${name}`, { cause });
  }
}

async function appliedMigrations(client: Client): Promise<Map<string, string>> {
  const { rows } = await client.execute("SELECT name, sha256 FROM __migrations ORDER BY name");
  return new Map(rows.map((row) => [String(row["name"]), String(row["sha256"])]));
}

function requireUnchanged(name: string, sha256: string, applied: string | undefined): void {
  if (sha256 === applied) return;
  throw new AppError(
    "resource/conflict",
    `Cannot use the database: migration ${name} was edited after it was applied`,
  );
}
