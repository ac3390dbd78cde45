import assert from "node:assert/strict";
import { test } from "node:test";
import { RestartBudget } from "./restart-budget.ts";

const POLICY = { maxRetries: 3, initialBackoff: 2, maxBackoff: 5, resetWindow: 10 };

test("follows the documented sequence for 3 retries, 2 s doubling to at most 5 s", () => {
  const budget = new RestartBudget(POLICY);
  // spec/vmm.md section 6.9.
  assert.deepEqual([0, 1, 2, 6, 11, 12, 20].map((now) => budget.observeStopped(now)), [
    { kind: "scheduled", delay: 2 },
    { kind: "wait" },
    { kind: "restart", attempt: 1, nextDelay: 4 },
    { kind: "restart", attempt: 2, nextDelay: 5 },
    { kind: "restart", attempt: 3, nextDelay: 5 },
    { kind: "exhausted", attempts: 3 },
    { kind: "wait" },
  ]);
});

test("only a full window of running makes the budget whole again", () => {
  const budget = new RestartBudget(POLICY);
  for (const now of [0, 2, 6, 11]) budget.observeStopped(now);
  budget.observeRunning(12);
  budget.observeRunning(21);
  assert.equal(budget.observeStopped(21.5).kind, "exhausted");

  budget.reset();
  for (const now of [30, 32]) budget.observeStopped(now);
  budget.observeRunning(33);
  budget.observeRunning(43);
  assert.deepEqual(budget.observeStopped(44), { kind: "scheduled", delay: 2 });
});
