import assert from "node:assert/strict";
import { test } from "node:test";
import { simulatedCvm } from "../../tests/simulated-cvm.ts";
import type { QuoteCollateral } from "./collateral.ts";
import { CollateralCache } from "./collateral-cache.ts";
import { parseQuote } from "./quote.ts";

const HOUR_MS = 3_600_000;
const DAY_MS = 24 * HOUR_MS;

function setup(options: { readonly sharesFetches?: boolean } = {}) {
  const { platform, attestation } = simulatedCvm();
  if (attestation.platform.kind !== "tdx") throw new TypeError("not TDX evidence");
  const quote = parseQuote(attestation.platform.quote);
  const clock = { now: new Date("2026-06-01T12:00:00Z") };
  const state = { fetched: 0, fails: false, malformed: false };
  const errors: unknown[] = [];
  const cache = new CollateralCache({
    fetch: async (): Promise<QuoteCollateral> => {
      state.fetched++;
      if (state.fails) throw new Error("PCCS is down");
      const collateral = platform.collateral(clock.now);
      return state.malformed ? { ...collateral, tcbInfo: "null" } : collateral;
    },
    now: () => clock.now,
    maxAgeMs: HOUR_MS,
    logError: (_, error) => errors.push(error),
    ...options,
  });
  const wait = (ms: number) => clock.now = new Date(clock.now.getTime() + ms);
  return { cache, quote, state, errors, wait };
}

test("calls at the same time fetch once, and later ones not at all", async () => {
  const { cache, quote, state, wait } = setup();
  const [one, two] = await Promise.all([cache.get(quote), cache.get(quote)]);
  assert.equal(one, two);
  wait(HOUR_MS - 1);
  assert.equal(await cache.get(quote), one);
  assert.equal(state.fetched, 1);
});

test("after its age it is fetched again; the old one serves while that fails", async () => {
  const { cache, quote, state, errors, wait } = setup();
  const first = await cache.get(quote);
  wait(HOUR_MS);
  assert.notEqual(await cache.get(quote), first);
  assert.equal(state.fetched, 2);
  const second = await cache.get(quote);
  state.fails = true;
  wait(HOUR_MS);
  assert.equal(await cache.get(quote), second);
  assert.equal(errors.length, 1);
});

test("past its nextUpdate the old one does not serve", async () => {
  const { cache, quote, state, wait } = setup();
  await cache.get(quote);
  state.fails = true;
  wait(31 * DAY_MS);
  await assert.rejects(cache.get(quote), { message: "PCCS is down" });
  state.fails = false;
  await cache.get(quote);
});

test("a failure is not kept", async () => {
  const { cache, quote, state } = setup();
  state.fails = true;
  await assert.rejects(cache.get(quote));
  state.fails = false;
  await cache.get(quote);
  assert.equal(state.fetched, 2);
});

test("what cannot be read is handed on for the verdict, and not kept", async () => {
  const { cache, quote, state } = setup();
  state.malformed = true;
  assert.equal((await cache.get(quote)).tcbInfo, "null");
  state.malformed = false;
  assert.notEqual((await cache.get(quote)).tcbInfo, "null");
});

test("where fetches are not shared each call at the same time has its own, later ones none", async () => {
  const { cache, quote, state } = setup({ sharesFetches: false });
  await Promise.all([cache.get(quote), cache.get(quote)]);
  assert.equal(state.fetched, 2);
  await cache.get(quote);
  assert.equal(state.fetched, 2);
});
