import assert from "node:assert/strict";
import { test } from "node:test";
import {
  type SimulatedCvm,
  simulatedCvm,
  type SimulatedCvmSpec,
} from "../../tests/simulated-cvm.ts";
import { toHex, utf8 } from "../bytes/bytes.ts";
import { encodeMrConfigV3, mrConfigIdV2, mrConfigIdV3 } from "../compose/mr-config.ts";
import type { RuntimeEvent } from "../event-log/runtime-event.ts";
import { type AppraisalInput, appraise } from "./appraise.ts";
import { policyWith } from "./policy.ts";
import { INTEL_TRUST_ANCHOR } from "./trust-anchor.ts";
import { CHECK_IDS, encodeVerdict, type Verdict } from "./verdict.ts";
import { decodeAttestation, encodeAttestation, stripAttestation } from "./versioned-attestation.ts";

const NOW = new Date("2026-11-22T08:30:00Z");
const KMS = { name: "kms", id: "3059" };

const appraiseCvm = (cvm: SimulatedCvm, changes: Partial<AppraisalInput> = {}): Promise<Verdict> =>
  appraise({
    attestation: cvm.attestation,
    collateral: cvm.platform.collateral(NOW),
    trustAnchors: [INTEL_TRUST_ANCHOR, cvm.trustAnchor],
    now: NOW,
    ...changes,
  });
const codeOf = async (spec: SimulatedCvmSpec, changes: Partial<AppraisalInput> = {}) =>
  (await appraiseCvm(simulatedCvm(spec), changes)).reason?.code ?? null;

test("a simulated CVM is accepted with the default policy and says simulated", async () => {
  const challenge = new Uint8Array(64).fill(3);
  const cvm = simulatedCvm({ reportData: challenge });
  const verdict = await appraiseCvm(cvm, {
    expectedReportData: challenge,
    policy: policyWith({ require: ["report-data", "compose-hash", "app-id", "key-provider"] }),
    reference: {
      osImageHashes: [cvm.osImageHash],
      composeHash: cvm.composeHash,
      appId: cvm.appId,
      instanceId: cvm.instanceId,
      keyProvider: KMS,
    },
  });
  assert.equal(verdict.reason, null);
  assert.equal(verdict.outcome, "accepted");
  assert.equal(verdict.simulated, true);
  assert.deepEqual(verdict.trustAnchor, { name: "simulated", simulated: true });
  assert.deepEqual(verdict.checks.map(({ id }) => id), CHECK_IDS);
  const notPassed = verdict.checks.filter(({ result }) => result !== "passed");
  assert.deepEqual(notPassed.map(({ id, result }) => `${id}: ${result}`), [
    "evidence-freshness: not-applicable",
    "tpm-quote: not-applicable",
    "gpu-attestation: not-applicable",
  ]);
  assert.deepEqual(verdict.identity!.keyProvider, KMS);
  assert.equal(verdict.identity!.osImageHash, toHex(cvm.osImageHash));
});

test("other ACPI tables than QEMU's own are told, and refused by a policy that minds", async () => {
  const digest = new Uint8Array(48).fill(1);
  const cvm = simulatedCvm({ acpiDigests: { loader: digest, rsdp: digest, tables: digest } });
  const check = ({ checks }: Verdict) => checks.find(({ id }) => id === "acpi-tables");
  const lenient = await appraiseCvm(cvm);
  assert.equal(lenient.reason, null);
  const detail = "The ACPI tables are not those QEMU 10.0.0 makes for this VM";
  assert.deepEqual(check(lenient), { id: "acpi-tables", result: "not-checked", detail });
  const policy = policyWith({ require: ["acpi-tables"] });
  const strict = await appraiseCvm(cvm, { policy });
  assert.deepEqual([strict.reason?.code, strict.reason?.check], [
    "acpi-tables-mismatch",
    "acpi-tables",
  ]);
  assert.equal((await appraiseCvm(simulatedCvm(), { policy })).reason, null);
});

test("ACPI tables nobody predicts stay open", async () => {
  for (const config of [{ swtpm: true }, { host_share_mode: "nfs" }]) {
    const cvm = simulatedCvm({ config });
    const verdict = await appraiseCvm(cvm);
    assert.equal(verdict.reason, null);
    const result = verdict.checks.find(({ id }) => id === "acpi-tables")!.result;
    assert.equal(result, "not-checked");
    const policy = policyWith({ require: ["acpi-tables"] });
    assert.equal((await appraiseCvm(cvm, { policy })).reason?.code, "required-check-not-run");
  }
});

test("with Intel's root alone it is refused and not called simulated", async () => {
  const verdict = await appraiseCvm(simulatedCvm(), { trustAnchors: [INTEL_TRUST_ANCHOR] });
  assert.equal(verdict.outcome, "refused");
  assert.equal(verdict.reason!.code, "certificate-untrusted");
  assert.equal(verdict.simulated, false);
  assert.equal(verdict.trustAnchor, null);
});

test("the root of another simulated platform refuses it", async () => {
  const other = simulatedCvm({ seed: 2 });
  const cvm = simulatedCvm();
  for (const collateral of [other.platform.collateral(NOW), cvm.platform.collateral(NOW)]) {
    const verdict = await appraiseCvm(cvm, { trustAnchors: [other.trustAnchor], collateral });
    assert.equal(verdict.reason!.code, "certificate-untrusted");
  }
});

test("collateral of another simulated platform is refused", async () => {
  const collateral = simulatedCvm({ seed: 2 }).platform.collateral(NOW);
  const verdict = await appraiseCvm(simulatedCvm(), { collateral });
  assert.equal(verdict.outcome, "refused");
});

test("the stripped container form proves the same", async () => {
  const cvm = simulatedCvm();
  const bytes = encodeAttestation(stripAttestation(cvm.attestation));
  const verdict = await appraiseCvm(cvm, { attestation: decodeAttestation(bytes) });
  assert.equal(verdict.reason, null);
});

test("events of digest version 2 travel in a V1 container", async () => {
  const events = simulatedCvm().attestation.stack.runtimeEvents
    .map((event): RuntimeEvent => ({ ...event, version: 2 }));
  const cvm = simulatedCvm({ events });
  const bytes = encodeAttestation(cvm.attestation);
  assert.equal(bytes[0], 0x83);
  for (const attestation of [cvm.attestation, stripAttestation(cvm.attestation)]) {
    const decoded = decodeAttestation(encodeAttestation(attestation));
    assert.deepEqual(decoded, attestation);
    assert.equal((await appraiseCvm(cvm, { attestation: decoded })).reason, null);
  }
});

test("a guest that asks for its keys has no provider yet", async () => {
  const cvm = simulatedCvm({ stage: "boot" });
  const verdict = await appraiseCvm(cvm, { reference: { keyProvider: KMS } });
  assert.equal(verdict.outcome, "accepted");
  assert.equal(verdict.checks.find(({ id }) => id === "key-provider")!.result, "not-checked");
  assert.equal(verdict.identity!.keyProvider, null);
});

test("MRCONFIGID version 2 binds app and key provider", async () => {
  const base = simulatedCvm();
  const launch = { composeHash: base.composeHash, appId: base.appId, keyProvider: "kms" } as const;
  const mrConfigId = mrConfigIdV2({ ...launch, keyProviderId: Uint8Array.of(0x30, 0x59) });
  assert.equal(await codeOf({ mrConfigId }), null);
  assert.equal(
    await codeOf({ mrConfigId, keyProvider: { name: "kms", id: "3058" } }),
    "mr-config-id-mismatch",
  );
  // Before it has keys the guest does not name the provider; the one that decides does.
  assert.equal(await codeOf({ mrConfigId, stage: "boot" }), "required-check-not-run");
  const reference = { keyProvider: KMS };
  assert.equal(await codeOf({ mrConfigId, stage: "boot" }, { reference }), null);
});

test("MRCONFIGID version 3 binds the document the host sent", async () => {
  const base = simulatedCvm();
  const document = encodeMrConfigV3({
    composeHash: base.composeHash,
    appId: base.appId,
    keyProvider: "kms",
    keyProviderId: Uint8Array.of(0x30, 0x59),
    initScriptHashes: [],
  });
  const mrConfigId = mrConfigIdV3(document);
  const config = { mr_config: new TextDecoder().decode(document) };
  assert.equal(await codeOf({ mrConfigId, config }), null);
  assert.equal(await codeOf({ mrConfigId }), "mr-config-id-missing");
  const padded = { mr_config: `${config.mr_config} ` };
  assert.equal(await codeOf({ mrConfigId, config: padded }), "mr-config-id-mismatch");
  const other = { composeHash: new Uint8Array(32).fill(1), mrConfigId, config };
  assert.equal(await codeOf(other), "mr-config-id-mismatch");
});

for (
  const [what, code, spec, changes] of [
    ["MRCONFIGID of another app", "mr-config-id-mismatch", {
      mrConfigId: Uint8Array.of(1, ...new Uint8Array(47).fill(5)),
    }, {}],
    ["no MRCONFIGID", "mr-config-id-missing", { mrConfigId: new Uint8Array(48) }, {}],
    ["a TD its host can debug", "debug-enabled", {
      tdAttributes: Uint8Array.of(1, 0, 0, 0x10, 0, 0, 0, 0),
    }, {}],
    ["a TD without SEPT_VE_DISABLE", "attributes-not-allowed", {
      tdAttributes: new Uint8Array(8),
    }, {}],
    ["an unknown MRCONFIGID", "mr-config-id-unsupported", {
      mrConfigId: Uint8Array.of(9, ...new Uint8Array(47)),
    }, {}],
    ["an image not on the list", "os-image-not-allowed", {}, {
      reference: { osImageHashes: [new Uint8Array(32)] },
    }],
    ["a memory size that was not launched", "os-image-register-mismatch", {
      config: { memory_size: 8 * 2 ** 30 },
    }, {}],
    ["a memory size lite cannot cover", "os-image-document-malformed", {
      config: { memory_size: 2 ** 30 },
    }, {}],
    ["an image hash that is not the document's", "os-image-document-mismatch", {
      config: { os_image_hash: "00".repeat(32) },
    }, {}],
    ["no image hash", "os-image-unknown", { config: { os_image_hash: "" } }, {}],
    ["no measurement document", "os-image-document-malformed", {
      config: { tdx_measurement: null },
    }, {}],
    ["a legacy configuration nobody can compare", "required-check-not-run", {
      config: { tdx_attestation_variant: "legacy" },
    }, {}],
  ] as const satisfies readonly (readonly [
    string,
    string,
    SimulatedCvmSpec,
    Partial<AppraisalInput>,
  ])[]
) {
  test(`refused: ${what}`, async () => {
    assert.equal(await codeOf(spec, changes), code);
  });
}

const running = simulatedCvm().attestation.stack.runtimeEvents;
const at = (name: string) => running.findIndex(({ event }) => event === name);
for (
  const [what, code, events] of [
    ["no app-id", "launch-event-missing", running.toSpliced(at("app-id"), 1)],
    ["a second app-id before boot-mr-done", "launch-event-duplicated", [
      ...running.slice(0, 2),
      ...running.slice(1),
    ]],
    ["a second compose-hash before system-ready", "launch-event-duplicated", [
      ...running.slice(0, -1),
      running[at("compose-hash")]!,
      ...running.slice(-1),
    ]],
    [
      "an instance-id behind boot-mr-done",
      "launch-event-order",
      [
        ...running.toSpliced(at("instance-id"), 1).slice(0, -1),
        running[at("instance-id")]!,
        running.at(-1)!,
      ],
    ],
    [
      "an app-id of 19 bytes",
      "launch-event-malformed",
      running.with(at("app-id"), { event: "app-id", payload: new Uint8Array(19), version: 1 }),
    ],
    [
      "an unreadable key provider",
      "key-provider-malformed",
      running.with(at("key-provider"), { event: "key-provider", payload: utf8("{}"), version: 1 }),
    ],
    [
      "six init scripts",
      "launch-event-duplicated",
      running.toSpliced(
        3,
        0,
        ...Array.from({ length: 6 }, (): RuntimeEvent => ({
          event: "init-script-hash",
          payload: new Uint8Array(32),
          version: 1,
        })),
      ),
    ],
  ] as const satisfies readonly (readonly [string, string, readonly RuntimeEvent[]])[]
) {
  test(`refused, although the log replays: ${what}`, async () => {
    assert.equal(await codeOf({ events }), code);
  });
}

test("events of the application after system-ready do not matter", async () => {
  const events = [
    ...running,
    { event: "app-id", payload: utf8("mine"), version: 1 },
    { event: "key-provider", payload: utf8("mine"), version: 1 },
    { event: "boot-mr-done", payload: utf8(""), version: 1 },
  ] satisfies RuntimeEvent[];
  const cvm = simulatedCvm({ events });
  const verdict = await appraiseCvm(cvm);
  assert.equal(verdict.reason, null);
  assert.equal(verdict.identity!.appId, toHex(cvm.appId));
  assert.deepEqual(verdict.identity!.keyProvider, KMS);
});

test("a log that tells another boot than the runtime events is refused", async () => {
  const cvm = simulatedCvm();
  assert.ok(cvm.attestation.platform.kind === "tdx");
  const { eventLog } = cvm.attestation.platform;
  const shorter = { ...cvm.attestation.platform, eventLog: eventLog.slice(0, -1) };
  const attestation = { ...cvm.attestation, platform: shorter };
  const verdict = await appraiseCvm(cvm, { attestation });
  assert.equal(verdict.reason!.code, "event-log-mismatch");
});

test("verdicts are plain JSON", async () => {
  const verdict = await appraiseCvm(simulatedCvm());
  assert.deepEqual(JSON.parse(encodeVerdict(verdict)), verdict);
});
