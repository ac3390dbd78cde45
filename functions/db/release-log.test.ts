import assert from "node:assert/strict";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, test } from "node:test";
import { fileURLToPath } from "node:url";
import { openDatabase } from "#adapters/libsql.ts";
import { toHex } from "#core/bytes/bytes.ts";
import {
  consistencyProof,
  inclusionProof,
  merkleRoot,
  verifyConsistency,
  verifyInclusion,
} from "#core/crypto/merkle-tree.ts";
import { decisionLeafHash, decisionToJson, type NewDecision } from "./kms-decisions.ts";
import * as schema from "./kms-schema.ts";
import { type LogHead, ReleaseLog } from "./release-log.ts";

const MIGRATIONS = fileURLToPath(new URL("../../migrations/kms", import.meta.url));

const decision = (n: number): NewDecision => ({
  decidedAtMs: 1_750_000_000_000 + n,
  requestId: `request ${n}`,
  method: "GetAppKey",
  outcome: n % 3 === 0 ? "denied" : "released",
  reason: n % 3 === 0 ? "auth/denied" : "",
  detail: "",
  tee: "dstack-tdx",
  simulated: true,
  trustAnchor: "test",
  appId: "11".repeat(20),
  instanceId: "",
  composeHash: "22".repeat(32),
  deviceId: "",
  osImageHash: "",
  mrSystem: "",
  mrAggregated: "",
  tcbStatus: "UpToDate",
  advisoryIds: ["INTEL-SA-1"],
  evidenceDigest: "",
  rule: "allowlist",
  epoch: 0,
  blockNumber: null,
  blockHash: "",
});

let directory: string;
let saved: LogHead | undefined;
const heads = {
  read: () => Promise.resolve(saved),
  write: (head: LogHead) => {
    saved = head;
    return Promise.resolve();
  },
};

beforeEach(async () => {
  directory = await mkdtemp(join(tmpdir(), "release-log-"));
  saved = undefined;
});
afterEach(() => rm(directory, { recursive: true }));

/** Opens the log, has `use` do something, closes it. */
async function withLog<T>(use: (log: ReleaseLog, sql: (text: string) => Promise<unknown>) => T) {
  const database = await openDatabase({
    url: `file:${join(directory, "kms.db")}`,
    migrationsFolder: MIGRATIONS,
    schema,
  });
  try {
    const log = await ReleaseLog.open({ db: database.db, client: database.client, heads });
    return await use(log, (text) => database.client.execute(text));
  } finally {
    database.close();
  }
}

/** What somebody does to the database while no KMS runs. */
async function tamper(...statements: string[]) {
  const database = await openDatabase({
    url: `file:${join(directory, "kms.db")}`,
    migrationsFolder: MIGRATIONS,
    schema,
  });
  for (const text of statements) await database.client.execute(text);
  database.close();
}

const fill = (count: number) =>
  withLog(async (log) => {
    await Promise.all(Array.from({ length: count }, (_, n) => log.append(decision(n))));
  });

test("entries get ids in their order, and a restart goes on after them", async () => {
  await withLog(async (log) => {
    const ids = await Promise.all([0, 1, 2].map((n) => log.append(decision(n))));
    assert.deepEqual(ids, [1, 2, 3]);
    assert.equal((await log.list({ limit: 1 }))[0]!.requestId, "request 2");
    assert.deepEqual(saved, log.head);
  });
  await withLog(async (log) => {
    assert.equal(log.head.size, 3);
    assert.equal(await log.append(decision(3)), 4);
    assert.deepEqual(await log.currentHead(), log.head);
  });
});

test("roots and proofs are those of the entries, across tiles", async () => {
  await fill(700);
  await withLog(async (log) => {
    const rows = (await log.list({ limit: 1000 })).toReversed();
    const leaves = rows.map((row) => decisionLeafHash(decisionToJson(row)));
    assert.equal(leaves.length, 700);
    assert.deepEqual(await log.leafHashes(0, 1000), leaves);
    for (const size of [0, 1, 255, 256, 257, 512, 513, 700]) {
      assert.equal(
        toHex(await log.root(size)),
        toHex(merkleRoot(leaves.slice(0, size))),
        `${size}`,
      );
    }
    const root = merkleRoot(leaves);
    for (const index of [0, 255, 256, 511, 512, 699]) {
      const proof = await inclusionProof(index, 700, log.subtree);
      verifyInclusion(leaves[index]!, index, 700, proof, root);
    }
    for (const first of [1, 255, 256, 257, 512, 699]) {
      const proof = await consistencyProof(first, 700, log.subtree);
      verifyConsistency(first, merkleRoot(leaves.slice(0, first)), 700, root, proof);
    }
  });
});

for (
  const [what, statement] of [
    ["the last entry removed", "DELETE FROM kms_decisions WHERE id = 300"],
    ["everything removed", "DELETE FROM kms_decisions"],
    ["an entry in the middle removed", "DELETE FROM kms_decisions WHERE id = 100"],
    ["the first entry removed", "DELETE FROM kms_decisions WHERE id = 1"],
    ["a reason changed", "UPDATE kms_decisions SET reason = '' WHERE id = 1"],
    ["an app id changed", "UPDATE kms_decisions SET app_id = '' WHERE id = 300"],
    ["a leaf hash changed", "UPDATE kms_decisions SET leaf_hash = chain_hash WHERE id = 7"],
    ["the chain cleared", "UPDATE kms_decisions SET chain_hash = '', leaf_hash = ''"],
    ["a tile removed", "DELETE FROM kms_log_tiles"],
    ["a tile changed", `UPDATE kms_log_tiles SET hash = '${"00".repeat(32)}'`],
  ] as const
) {
  test(`a log with ${what} is refused`, async () => {
    await fill(300);
    await tamper(statement);
    await assert.rejects(withLog(() => {}), { fields: { reason: "kms/log-damaged" } });
    if (what === "everything removed" || what === "the chain cleared") return;
    saved = what === "the last entry removed" ? saved : undefined;
    await assert.rejects(
      withLog(() => {}),
      { fields: { reason: "kms/log-damaged" } },
      "without a saved head too",
    );
  });
}

test("a log rewritten with hashes that fit is another log", async () => {
  await fill(3);
  const before = saved;
  await rm(join(directory, "kms.db"));
  saved = undefined;
  await withLog(async (log) => {
    for (const n of [5, 6, 7, 8]) await log.append(decision(n));
  });
  saved = before;
  await assert.rejects(withLog(() => {}), {
    fields: { reason: "kms/log-damaged" },
    message: "The release log was cut or edited: entry 3 is another one than before",
  });
});

test("a log cut while the KMS runs takes no more entries", async () => {
  await withLog(async (log, sql) => {
    for (const n of [0, 1]) await log.append(decision(n));
    await sql("DELETE FROM kms_decisions WHERE id = 2");
    await assert.rejects(log.append(decision(2)), { fields: { reason: "kms/log-damaged" } });
    await sql("UPDATE kms_decisions SET id = 2 WHERE id = 1");
    await assert.rejects(log.append(decision(2)), { fields: { reason: "kms/log-damaged" } });
  });
});

test("a decision whose head cannot be kept is not stored for its caller", async () => {
  await withLog(async (log) => {
    await log.append(decision(0));
    const { write } = heads;
    heads.write = () => Promise.reject(new Error("disk full"));
    await assert.rejects(log.append(decision(1)), { message: "disk full" });
    heads.write = write;
    assert.equal(await log.append(decision(2)), 3);
  });
  await withLog((log) => assert.equal(log.head.size, 3));
});

test("entries from before the chain are chained once", async () => {
  await fill(300);
  const head = saved;
  await tamper(
    "UPDATE kms_decisions SET chain_hash = '', leaf_hash = ''",
    "DELETE FROM kms_log_tiles",
  );
  saved = undefined;
  await withLog((log) => assert.deepEqual(log.head, head));
});

test("too many decisions at once are refused, those taken are stored", async () => {
  await withLog(async (log) => {
    const appended = Array.from({ length: 5000 }, (_, n) => log.append(decision(n)));
    const ended = await Promise.allSettled(appended);
    const refused = ended.filter(({ status }) => status === "rejected");
    assert.ok(refused.length > 0 && refused.length < 1000, String(refused.length));
    assert.equal(log.head.size, 5000 - refused.length);
  });
});
