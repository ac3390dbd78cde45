import assert from "node:assert/strict";
import { test } from "node:test";
import {
  afterAttempt,
  backoff,
  type CheckerState,
  decide,
  initialState,
  parseLatestHandshake,
} from "./gateway-schedule.ts";

const FRESH: CheckerState = initialState(0, false);
/** Any start will do, as long as a frozen handshake can lie before it. */
const START = 1_000_000;

interface Counts {
  readonly forced: number;
  readonly periodic: number;
  readonly at: readonly string[];
}

/** Polls every 10 s for 900 s; `handshake` answers the newest handshake at `t` seconds after the start. */
function run(
  handshake: (t: number) => number,
  options: { from?: number; state?: CheckerState } = {},
): Counts {
  let state = options.state ?? FRESH;
  const at: string[] = [];
  for (let t = options.from ?? 0; t < 900; t += 10) {
    const now = START + t;
    const decision = decide(state, { now, configPresent: true, latestHandshake: handshake(t) });
    state = decision.state;
    if (decision.action === "none") continue;
    const forced = decision.action === "forced-refresh";
    at.push(`${forced ? "forced" : "periodic"}@${t}`);
    state = afterAttempt(state, { now, forced, succeeded: true });
  }
  const count = (kind: string) => at.filter((entry) => entry.startsWith(kind)).length;
  return { forced: count("forced"), periodic: count("periodic"), at };
}

// Numbers of spec/os.md 8.1, "Checker".
test("a healthy tunnel is never refreshed by force", () => {
  assert.equal(run((t) => START + t).forced, 0);
});

test("a tunnel that never shakes hands is refreshed every 180 s", () => {
  assert.equal(run(() => 0).forced, 4);
});

test("a frozen handshake counts like none", () => {
  assert.equal(run(() => START).forced, 4);
});

test("silence counts from the last handshake", () => {
  assert.equal(run((t) => START + Math.min(t, 180)).forced, 3);
});

test("recovery ends the forced refreshes and brings periodic ones back", () => {
  const counts = run((t) => t >= 540 ? START + t : 0);
  assert.equal(counts.forced, 2);
  assert.ok(counts.periodic >= 1);
});

test("a configuration found at the start delays the first attempt to 180 s", () => {
  const counts = run((t) => START + t, { state: initialState(START, true) });
  assert.equal(counts.at[0], "periodic@180");
});

test("a handshake found missing at 10 s forces at 190 s", () => {
  const counts = run(() => 0, { state: initialState(START, true), from: 10 });
  assert.deepEqual(counts.at.slice(0, 2), ["periodic@180", "forced@190"]);
});

test("without a configuration it forces at once, then after 30, 60, 120, 120 s", () => {
  let state = initialState(START, false);
  const attempts: number[] = [];
  for (let t = 0; t <= 400; t += 10) {
    const now = START + t;
    const decision = decide(state, { now, configPresent: false, latestHandshake: 0 });
    state = decision.state;
    if (decision.action === "none") continue;
    assert.equal(decision.action, "forced-refresh");
    attempts.push(t);
    state = afterAttempt(state, { now, forced: true, succeeded: false });
  }
  assert.deepEqual(attempts, [0, 30, 90, 210, 330]);
});

test("back-off is capped whatever the count", () => {
  assert.deepEqual([0, 1, 2, 3, 4, 0xffffffff].map(backoff), [0, 30, 60, 120, 120, 120]);
});

test("reads the newest handshake and ignores zeros and garbage", () => {
  assert.equal(
    parseLatestHandshake("AAAA=\t0\nBBBB=\t1700000005\ngarbage\nCCCC=\t17\n\n"),
    1700000005,
  );
  assert.equal(parseLatestHandshake(""), 0);
  assert.equal(parseLatestHandshake("AAAA=\t-5\nBBBB=\tx\n"), 0);
});
