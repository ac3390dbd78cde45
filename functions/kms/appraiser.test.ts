import assert from "node:assert/strict";
import { test } from "node:test";
import { encodeGpuAttestation } from "#core/nvidia/gpu-attestation.ts";
import { webCrypto } from "#core/crypto/crypto-provider.ts";
import { EndorsementCache } from "#core/tdx/endorsement-cache.ts";
import { simulatedCvm } from "../../tests/simulated-cvm.ts";
import { createAppraiser } from "./appraiser.ts";

const NOW = new Date("2026-06-01T12:00:00Z");

/** The KMS's verdict on a CVM of one GPU in that mode. */
async function verdictOf(gpu: { readonly ccMode: string; readonly devtools: boolean }) {
  const plain = simulatedCvm({ stage: "boot" }).attestation.stack.runtimeEvents;
  const payload = encodeGpuAttestation({
    devices: 1,
    evidenceSha256: new Uint8Array(32),
    ...gpu,
  });
  const event = { event: "gpu-attestation", payload, version: 1 } as const;
  const events = [...plain.slice(0, -1), event, plain.at(-1)!];
  const cvm = simulatedCvm({ events, config: { num_gpus: 1 } });
  const appraise = createAppraiser({
    now: () => NOW,
    trustAnchors: [cvm.trustAnchor],
    collateralFor: () => Promise.resolve(cvm.platform.collateral(NOW)),
    verifyImage: true,
    rootPublicKey: undefined,
    crypto: webCrypto,
    endorsements: new EndorsementCache(),
  });
  return await appraise({
    attestation: cvm.attestation,
    expectedReportData: cvm.attestation.stack.reportData,
    vmConfig: "",
    role: "app",
    scope: "boot-time",
  });
}

test("the app's compose file decides about developer tools on its GPUs", async () => {
  const verdict = await verdictOf({ ccMode: "on", devtools: true });
  assert.equal(verdict.reason, null);
});

test("keys are not for GPUs that work in the clear", async () => {
  const verdict = await verdictOf({ ccMode: "off", devtools: false });
  assert.equal(verdict.reason!.code, "gpu-mode-not-allowed");
});
