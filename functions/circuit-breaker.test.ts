import assert from "node:assert/strict";
import { test } from "node:test";
import { CircuitBreaker } from "./circuit-breaker.ts";

function setup() {
  const clock = { ms: 0 };
  const breaker = new CircuitBreaker({
    name: "it",
    now: () => new Date(clock.ms),
    failures: 3,
    pauseMs: 1000,
  });
  const calls = { count: 0 };
  const call = (outcome: "ok" | "down" | "no") =>
    breaker.run(async () => {
      calls.count++;
      if (outcome !== "ok") throw new Error(outcome);
    }, (error) => error instanceof Error && error.message === "down");
  return { clock, breaker, calls, call };
}
const open = { code: "upstream/unavailable", fields: { reason: "circuit-open" } };

test("after failures in a row nobody is asked until the pause is over", async () => {
  const { clock, calls, call } = setup();
  for (let i = 0; i < 3; i++) await assert.rejects(call("down"), { message: "down" });
  await assert.rejects(call("ok"), open);
  assert.equal(calls.count, 3);
  clock.ms = 1000;
  await assert.rejects(call("down"), { message: "down" });
  await assert.rejects(call("ok"), open, "one more failure opens it again");
  clock.ms = 2000;
  await call("ok");
  await assert.rejects(call("down"), { message: "down" });
  await call("ok");
});

test("an answer, also a refusal, is no failure", async () => {
  const { call } = setup();
  for (let i = 0; i < 5; i++) await assert.rejects(call("no"), { message: "no" });
  for (const outcome of ["down", "down", "no", "down", "down"] as const) {
    await assert.rejects(call(outcome), { message: outcome });
  }
  await call("ok");
});

test("after the pause one call tries alone", async () => {
  const { clock, breaker, call } = setup();
  for (let i = 0; i < 3; i++) await assert.rejects(call("down"));
  clock.ms = 1000;
  const { promise, resolve } = Promise.withResolvers<void>();
  const probe = breaker.run(() => promise, () => true);
  await assert.rejects(call("ok"), open);
  resolve();
  await probe;
  await call("ok");
});
