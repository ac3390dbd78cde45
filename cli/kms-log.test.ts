import assert from "node:assert/strict";
import { test } from "node:test";
import { createKmsApp } from "#functions/kms/app.ts";
import { fakePorts } from "#functions/kms/fakes.ts";
import { fetchOf, terminal } from "./terminal.fixture.ts";

async function kms(overrides: Parameters<typeof fakePorts>[0] = {}) {
  const fakes = await fakePorts(overrides);
  const app = createKmsApp(fakes.ports);
  const serving = { app };
  const { dstack, text } = terminal({
    tlsFetch: () => (url, init) => fetchOf(serving.app)(url, init),
    env: { DSTACK_KMS: "https://kms.test:8000" },
  });
  const decide = async (count: number) => {
    for (let i = 0; i < count; i++) {
      await app.request("/prpc/GetAppKey", { method: "POST" });
    }
  };
  return { ...fakes, serving, dstack, text, decide };
}

const verify = ["kms", "log", "verify", "--state", "log.json"];

test("a log that grew verifies again and again", async () => {
  const { dstack, decide, text, rows } = await kms();
  assert.match((await dstack(...verify)).stdout, /^0 entries/);
  await decide(5);
  assert.equal(rows.length, 5);
  const { code, stdout } = await dstack(...verify);
  assert.equal(code, 0);
  assert.match(stdout, /^5 entries, root [0-9a-f]{64}, signed by 031b84c5.*\ngrown from 0 entries/);
  await decide(3);
  assert.equal(JSON.parse((await dstack(...verify, "--json")).stdout).tree_size, 8);
  assert.equal(JSON.parse(text("log.json")).tree_size, 8);
});

test("a log that was cut, edited or is signed by another is refused with exit 3", async () => {
  const { dstack, decide, rows } = await kms();
  await decide(6);
  assert.equal((await dstack(...verify)).code, 0);
  const last = rows.pop()!;
  const cut = await dstack(...verify);
  assert.equal(cut.code, 3);
  assert.match(cut.stderr, /it has 5 entries, and had 6 before/);
  rows.push({ ...last, appId: "ff".repeat(20) });
  const edited = await dstack(...verify);
  assert.equal(edited.code, 3);
  assert.match(edited.stderr, /consistency|proof does not hold/);
  rows.pop();
  rows.push(last);
  assert.equal((await dstack(...verify)).code, 0);
  const other = await dstack(...verify, "--key", `02${"11".repeat(32)}`);
  assert.equal(other.code, 3);
});

test("leaves that do not make the signed root are refused", async () => {
  const { ports } = await fakePorts();
  const { dstack, decide } = await kms({
    decisions: { ...ports.decisions, leafHashes: () => Promise.resolve([new Uint8Array(32)]) },
  });
  await decide(2);
  const { decisions } = ports;
  await decisions.append((await decisions.list({ limit: 1 }))[0]!);
  const { code, stderr } = await dstack("kms", "log", "verify");
  assert.equal(code, 3, stderr);
});
