import assert from "node:assert/strict";
import { test } from "node:test";
import { simulatedCvm } from "../../tests/simulated-cvm.ts";
import type { RuntimeEvent } from "../event-log/runtime-event.ts";
import { encodeGpuAttestation } from "../nvidia/gpu-attestation.ts";
import { utf8 } from "../bytes/bytes.ts";
import { appraise } from "./appraise.ts";
import { policyWith } from "./policy.ts";

const NOW = new Date("2026-06-01T12:00:00Z");
const GPUS = {
  devices: 2,
  ccMode: "on",
  devtools: false,
  evidenceSha256: new Uint8Array(32),
};
const gpuEvent = (changes: Partial<typeof GPUS> = {}): RuntimeEvent => ({
  event: "gpu-attestation",
  payload: encodeGpuAttestation({ ...GPUS, ...changes }),
  version: 1,
});

/** A CVM of 2 GPUs whose guest extended these events before `boot-mr-done`, or after it. */
async function checkOf(
  early: readonly RuntimeEvent[],
  options: {
    readonly late?: readonly RuntimeEvent[];
    readonly gpus?: number;
    readonly allowGpuDevtools?: boolean;
  } = {},
) {
  const plain = simulatedCvm().attestation.stack.runtimeEvents;
  const boundary = plain.findIndex(({ event }) => event === "boot-mr-done");
  const events = [
    ...plain.slice(0, boundary),
    ...early,
    plain[boundary]!,
    ...(options.late ?? []),
    ...plain.slice(boundary + 1),
  ];
  const cvm = simulatedCvm({ events, config: { num_gpus: options.gpus ?? 2 } });
  const verdict = await appraise({
    attestation: cvm.attestation,
    collateral: cvm.platform.collateral(NOW),
    trustAnchors: [cvm.trustAnchor],
    now: NOW,
    policy: policyWith({ allowGpuDevtools: options.allowGpuDevtools ?? false }),
  });
  const { result } = verdict.checks.find(({ id }) => id === "gpu-attestation")!;
  return { result, reason: verdict.reason?.code };
}

test("GPUs the guest attested are part of the verdict", async () => {
  assert.deepEqual(await checkOf([gpuEvent()]), { result: "passed", reason: undefined });
});

test("GPUs nobody attested are said, and refuse nobody who did not ask", async () => {
  assert.deepEqual(await checkOf([]), { result: "not-checked", reason: undefined });
  assert.deepEqual(await checkOf([], { gpus: 0 }), {
    result: "not-applicable",
    reason: undefined,
  });
});

test("what an app logs after system-ready is no attestation of its GPUs", async () => {
  const plain = simulatedCvm().attestation.stack.runtimeEvents;
  const cvm = simulatedCvm({ events: [...plain, gpuEvent()], config: { num_gpus: 2 } });
  const verdict = await appraise({
    attestation: cvm.attestation,
    collateral: cvm.platform.collateral(NOW),
    trustAnchors: [cvm.trustAnchor],
    now: NOW,
  });
  const check = verdict.checks.find(({ id }) => id === "gpu-attestation")!;
  assert.equal(check.result, "not-checked");
});

for (
  const [what, code, run] of [
    [
      "fewer GPUs than the VM has",
      "gpu-attestation-mismatch",
      () => checkOf([gpuEvent({ devices: 1 })]),
    ],
    [
      "GPUs the VM does not have",
      "gpu-attestation-mismatch",
      () => checkOf([gpuEvent()], { gpus: 0 }),
    ],
    ["GPUs in the clear", "gpu-mode-not-allowed", () => checkOf([gpuEvent({ ccMode: "off" })])],
    ["developer tools", "gpu-mode-not-allowed", () => checkOf([gpuEvent({ devtools: true })])],
    ["two attestations", "gpu-attestation-malformed", () => checkOf([gpuEvent(), gpuEvent()])],
    ["one after the boot", "gpu-attestation-malformed", () => checkOf([], { late: [gpuEvent()] })],
    [
      "one that is none",
      "gpu-attestation-malformed",
      () => checkOf([{ event: "gpu-attestation", payload: utf8("{}"), version: 1 }]),
    ],
  ] as const
) {
  test(`a CVM is refused for ${what}`, async () => {
    assert.deepEqual(await run(), { result: "failed", reason: code });
  });
}

test("developer tools are a policy's to allow", async () => {
  const { reason } = await checkOf([gpuEvent({ devtools: true })], { allowGpuDevtools: true });
  assert.equal(reason, undefined);
});
