import assert from "node:assert/strict";
import { test } from "node:test";
import { simulatedCvm } from "../../tests/simulated-cvm.ts";
import { type AppraisalInput, appraise } from "./appraise.ts";
import { checksOf, policyWith } from "./policy.ts";
import { CHECK_IDS } from "./verdict.ts";
import { wordsOf } from "./verdict-words.ts";

const NOW = new Date("2026-06-01T12:00:00Z");
const cvm = simulatedCvm();

function verdictOf(changes: Partial<AppraisalInput> = {}, anchorIsSimulated = true) {
  const trustAnchor = { ...cvm.trustAnchor, simulated: anchorIsSimulated };
  return appraise({
    attestation: cvm.attestation,
    collateral: cvm.platform.collateral(NOW),
    trustAnchors: [trustAnchor],
    now: NOW,
    ...changes,
  });
}
const expecting = (composeHash: Uint8Array) => {
  const reference = { composeHash };
  return { reference, policy: policyWith({ require: checksOf(reference, undefined) }) };
};

test("every check is said once, proven or not", async () => {
  const { proven, unproven, notApplicable } = wordsOf(await verdictOf());
  const said = [...proven, ...unproven, ...notApplicable].map(({ check }) => check);
  assert.deepEqual(said.toSorted(), CHECK_IDS.toSorted());
  assert.deepEqual(unproven.map(({ check }) => check), [
    "report-data",
    "compose-hash",
    "app-id",
    "instance-id",
    "key-provider",
  ]);
  assert.deepEqual(notApplicable.map(({ check }) => check), [
    "evidence-freshness",
    "tpm-quote",
    "gpu-attestation",
  ]);
});

test("a simulated TEE never reads like hardware", async () => {
  const { headline, proven } = wordsOf(await verdictOf(expecting(cvm.composeHash)));
  assert.match(headline, /software played the TEE: nothing is proven about any hardware/);
  for (const { text } of proven) assert.doesNotMatch(text, /genuine|hardware/i);
});

test("the app is called expected only when somebody said what to expect", async () => {
  const unnamed = wordsOf(await verdictOf({}, false)).headline;
  assert.match(unnamed, /for you to compare/);
  const named = wordsOf(await verdictOf(expecting(cvm.composeHash), false)).headline;
  assert.match(named, /^This is the app you expect/);
});

test("a refusal leads with its reason, and lists what failed before what is open", async () => {
  const verdict = await verdictOf(expecting(new Uint8Array(32)), false);
  const { headline, unproven } = wordsOf(verdict);
  assert.equal(
    headline,
    "Do not trust this: the guest proved another compose-hash than expected.",
  );
  assert.deepEqual(unproven.slice(0, 2).map(({ check }) => check), ["compose-hash", "policy"]);
});

test("a bare quote says nothing about an app", async () => {
  const { platform } = cvm.attestation;
  assert.ok(platform.kind === "tdx");
  const verdict = await verdictOf({
    attestation: { quote: platform.quote },
    policy: policyWith({ required: ["signature-chain"] }),
  }, false);
  assert.match(wordsOf(verdict).headline, /By itself it says nothing about an app/);
});
