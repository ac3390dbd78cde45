import assert from "node:assert/strict";
import { test } from "node:test";
import type { Reference } from "#core/attestation/reference.ts";
import { tdReportOf } from "#core/attestation/versioned-attestation.ts";
import { parseQuote } from "#core/tdx/quote.ts";
import { encodeGpuAttestation } from "#core/nvidia/gpu-attestation.ts";
import { webCrypto } from "#core/crypto/crypto-provider.ts";
import { EndorsementCache } from "#core/tdx/endorsement-cache.ts";
import { type SimulatedCvm, simulatedCvm } from "../../tests/simulated-cvm.ts";
import { createAppraiser } from "./appraiser.ts";

const NOW = new Date("2026-06-01T12:00:00Z");

/** The KMS's verdict on a CVM, which comes to it before it has keys. */
async function appraised(cvm: SimulatedCvm, registersOf: Reference["registersOf"] = undefined) {
  const appraise = createAppraiser({
    now: () => NOW,
    trustAnchors: [cvm.trustAnchor],
    collateralFor: () => Promise.resolve(cvm.platform.collateral(NOW)),
    verifyImage: true,
    registersOf,
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

/** The same of one GPU in that mode. */
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
  return await appraised(cvm);
}

test("the app's compose file decides about developer tools on its GPUs", async () => {
  const verdict = await verdictOf({ ccMode: "on", devtools: true });
  assert.equal(verdict.reason, null);
});

test("keys are not for GPUs that work in the clear", async () => {
  const verdict = await verdictOf({ ccMode: "off", devtools: false });
  assert.equal(verdict.reason!.code, "gpu-mode-not-allowed");
});

test("a legacy CVM gets keys from a KMS that keeps its image, and from no other", async () => {
  const cvm = simulatedCvm({
    stage: "boot",
    config: { tdx_attestation_variant: "legacy", tdx_measurement: null },
  });
  const { platform } = cvm.attestation;
  const { mrTd, rtmrs } = tdReportOf(parseQuote((platform as { quote: Uint8Array }).quote));
  const registers = { mrTd, rtmrs: [rtmrs[0], rtmrs[1], rtmrs[2]] as const };
  const codeOf = async (registersOf: Reference["registersOf"]) =>
    (await appraised(cvm, registersOf)).reason?.code;
  assert.equal(await codeOf(() => Promise.resolve(registers)), undefined);
  const others = { ...registers, mrTd: new Uint8Array(48) };
  assert.equal(await codeOf(() => Promise.resolve(others)), "os-image-register-mismatch");
  assert.equal(await codeOf(() => Promise.resolve(undefined)), "required-check-not-run");
  const { reason } = await appraised(cvm);
  assert.equal(reason?.code, "os-image-unknown");
  assert.match(reason!.detail, /core\.image\.download_url/);
});
