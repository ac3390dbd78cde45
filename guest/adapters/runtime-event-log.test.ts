import assert from "node:assert/strict";
import { mkdtempSync, readFileSync, rmSync, statSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { utf8 } from "#core/bytes/bytes.ts";
import { createTee, type TeeDriver } from "../tee/tee.ts";
import { openRuntimeEventLog } from "./runtime-event-log.ts";

function fresh(t: { after(fn: () => void): void }): string {
  const dir = mkdtempSync(join(tmpdir(), "events-"));
  t.after(() => rmSync(dir, { recursive: true }));
  return join(dir, "log");
}

const driver = (extend: TeeDriver["extend"]): TeeDriver => ({
  name: "sim",
  quote: () => Promise.resolve(new Uint8Array()),
  extend,
  bootEvents: () => Promise.resolve([]),
});

test("keeps events in the reference's lines, for root alone", async (t) => {
  const dir = fresh(t);
  const tee = createTee(driver(() => Promise.resolve()), openRuntimeEventLog(dir));
  await tee.extend({ event: "compose-hash", payload: Uint8Array.of(0xab, 0xcd), version: 1 });
  await tee.extend({ event: "own", payload: utf8("x"), version: 2 });
  const path = join(dir, "runtime_events.log");
  assert.equal(
    readFileSync(path, "utf8"),
    '{"event":"compose-hash","payload":"q80="}\n{"event":"own","payload":"eA==","version":2}\n',
  );
  assert.equal(statSync(path).mode & 0o777, 0o600);
  const events = await openRuntimeEventLog(dir).read();
  assert.deepEqual(events[0]?.payload, Uint8Array.of(0xab, 0xcd));
});

test("an event that could not extend the register is not logged", async (t) => {
  const log = openRuntimeEventLog(fresh(t));
  const tee = createTee(driver(() => Promise.reject(new Error("no TEE"))), log);
  await assert.rejects(tee.extend({ event: "a", payload: utf8(""), version: 1 }), /no TEE/);
  assert.deepEqual(await log.read(), []);
});

test("two writers log in the order in which they extended", async (t) => {
  const dir = fresh(t);
  const extended: string[] = [];
  const writer = (name: string) => {
    const slow = async () => {
      extended.push(name);
      await new Promise((resolve) => setTimeout(resolve, Math.random() * 5));
    };
    return createTee(driver(slow), openRuntimeEventLog(dir));
  };
  const writers = ["a", "b", "c"].map((name) => ({ name, tee: writer(name) }));
  await Promise.all(
    Array.from({ length: 12 }, (_, i) => writers[i % 3]!).map(({ name, tee }) =>
      tee.extend({ event: name, payload: utf8(""), version: 1 })
    ),
  );
  const logged = (await openRuntimeEventLog(dir).read()).map(({ event }) => event);
  assert.deepEqual(logged, extended);
});
