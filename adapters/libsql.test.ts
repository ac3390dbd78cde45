import assert from "node:assert/strict";
import { mkdir, mkdtemp, rm, stat, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, test } from "node:test";
import { eq } from "drizzle-orm";
import { integer, sqliteTable, text } from "drizzle-orm/sqlite-core";
import { openDatabase } from "./libsql.ts";

const folder = await mkdtemp(join(tmpdir(), "libsql-"));
after(() => rm(folder, { recursive: true }));

const owners = sqliteTable("owners", { name: text().primaryKey() });
const items = sqliteTable("items", {
  id: integer().primaryKey({ autoIncrement: true }),
  owner: text().notNull(),
  count: integer().notNull(),
});
const schema = { owners, items };
const INITIAL = `CREATE TABLE owners (name text PRIMARY KEY NOT NULL);
--> statement-breakpoint
CREATE TABLE items (
  id integer PRIMARY KEY AUTOINCREMENT NOT NULL, owner text NOT NULL, count integer NOT NULL,
  FOREIGN KEY (owner) REFERENCES owners(name)
);`;

let next = 0;
async function newFolder(files: Record<string, string> = { "0000_initial.sql": INITIAL }) {
  const migrationsFolder = join(folder, `migrations-${next++}`);
  await mkdir(migrationsFolder);
  for (const [name, sql] of Object.entries(files)) {
    await writeFile(join(migrationsFolder, name), sql);
  }
  return { migrationsFolder, url: `file:${join(folder, `${next}.db`)}`, schema };
}

test("a new database is private, in WAL mode, and has the schema", async () => {
  const options = await newFolder();
  const { db, client, close } = await openDatabase(options);
  await db.insert(owners).values({ name: "a" });
  await db.insert(items).values({ owner: "a", count: 1 });
  assert.deepEqual(await db.select().from(items), [{ id: 1, owner: "a", count: 1 }]);
  assert.equal((await client.execute("PRAGMA journal_mode")).rows[0]?.[0], "wal");
  assert.equal((await stat(options.url.slice(5))).mode & 0o777, 0o600);
  close();
});

test("foreign keys hold, also after a transaction was rolled back", async () => {
  const { db, close } = await openDatabase(await newFolder());
  const orphan = () => db.insert(items).values({ owner: "nobody", count: 1 });
  await assert.rejects(orphan());
  await assert.rejects(
    db.transaction(async (tx) => {
      await tx.insert(owners).values({ name: "b" });
      throw new Error("undo");
    }),
    { message: "undo" },
  );
  assert.deepEqual(await db.select().from(owners), []);
  await assert.rejects(orphan());
  close();
});

test("statements wait for an open transaction and transactions for one another", async () => {
  const { db, close } = await openDatabase(await newFolder());
  await db.insert(owners).values({ name: "a" });
  await db.insert(items).values({ owner: "a", count: 0 });
  const increment = () =>
    db.transaction(async (tx) => {
      const [item] = await tx.select().from(items).where(eq(items.id, 1));
      await new Promise((resolve) => setTimeout(resolve, 5));
      await tx.update(items).set({ count: item!.count + 1 }).where(eq(items.id, 1));
    });
  const work = [
    increment(),
    increment(),
    db.insert(items).values({ owner: "a", count: 9 }),
    increment(),
  ];
  await Promise.all(work);
  assert.equal((await db.select().from(items).where(eq(items.id, 1)))[0]?.count, 3);
  close();
});

test("two connections to one file see each other's commits", async () => {
  const options = await newFolder();
  const [one, two] = await Promise.all([openDatabase(options), openDatabase(options)]);
  await one.db.insert(owners).values({ name: "a" });
  assert.deepEqual(await two.db.select().from(owners), [{ name: "a" }]);
  one.close();
  two.close();
});

test("migrations are applied once, in order, and kept when the database is opened again", async () => {
  const options = await newFolder();
  (await openDatabase(options)).close();
  await writeFile(
    join(options.migrationsFolder, "0001_more.sql"),
    "ALTER TABLE items ADD COLUMN note text;",
  );
  for (let i = 0; i < 2; i++) {
    const { client, close } = await openDatabase(options);
    const { rows } = await client.execute("SELECT name FROM __migrations ORDER BY name");
    assert.deepEqual(rows.map((row) => row[0]), ["0000_initial.sql", "0001_more.sql"]);
    close();
  }
});

test("a migration that fails leaves nothing behind", async () => {
  const options = await newFolder({
    "0000_initial.sql": INITIAL,
    "0001_broken.sql": "CREATE TABLE half (id integer);\n--> statement-breakpoint\nNONSENSE;",
  });
  await assert.rejects(openDatabase(options), {
    message: "Cannot apply migration 0001_broken.sql",
  });
  await writeFile(
    join(options.migrationsFolder, "0001_broken.sql"),
    "CREATE TABLE half (id integer);",
  );
  (await openDatabase(options)).close();
});

test("an edited migration and a database from a newer program are refused", async () => {
  const options = await newFolder();
  (await openDatabase(options)).close();
  await writeFile(join(options.migrationsFolder, "0000_initial.sql"), `${INITIAL}\n-- edited`);
  await assert.rejects(openDatabase(options), {
    code: "resource/conflict",
    message: /migration 0000_initial\.sql was edited after it was applied/,
  });
  await rm(join(options.migrationsFolder, "0000_initial.sql"));
  await assert.rejects(openDatabase(options), { message: /from a newer version of this program/ });
});
