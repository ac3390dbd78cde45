import assert from "node:assert/strict";
import { vectorBytes, vectorTest, vectorText } from "../../tests/vectors.ts";
import { fromHex, toHex, utf8 } from "../bytes/bytes.ts";
import type { RuntimeEvent } from "../event-log/runtime-event.ts";
import { parseEventLogJson } from "../event-log/tdx-event.ts";
import { parseCollateralJson } from "../tdx/collateral.ts";
import { parseQuote } from "../tdx/quote.ts";
import { appInfoOf } from "./app-info.ts";
import { type AppraisalInput, appraise } from "./appraise.ts";
import type { Attestation } from "./attestation.ts";
import { requireReplay } from "./event-log-check.ts";
import { checkMrConfig } from "./mr-config-check.ts";
import { provenOsImage } from "./os-image.ts";
import { policyWith, QUOTE_POLICY } from "./policy.ts";
import { INTEL_TRUST_ANCHOR } from "./trust-anchor.ts";
import { type CheckId, encodeVerdict, requireAccepted, type Verdict } from "./verdict.ts";
import { attestationFromTdxQuote, decodeAttestation, tdReportOf } from "./versioned-attestation.ts";

const collateral = (name: string) =>
  parseCollateralJson(vectorText(`intel/${name}_collateral.json`));

interface QuoteReport {
  quote: string;
  event_log: string;
  vm_config: string;
}

/** Q1 of spec attestation.md 9.1: a whole event log, no MRCONFIGID, the legacy measurement variant. */
function dstackCvm(): Attestation {
  const report = JSON.parse(vectorText("dstack/quote-report.json")) as QuoteReport;
  const log = parseEventLogJson(report.event_log);
  return attestationFromTdxQuote(fromHex(report.quote), log, report.vm_config);
}

const ON_2026_03_01 = {
  collateral: undefined as AppraisalInput["collateral"],
  trustAnchors: [INTEL_TRUST_ANCHOR],
  now: new Date("2026-03-01T00:00:00Z"),
};
const hardwareAndLog = policyWith({ require: ["event-log-replay", "launch-events"] }, QUOTE_POLICY);
const appraiseQ1 = (changes: Partial<AppraisalInput> = {}) =>
  appraise({
    ...ON_2026_03_01,
    collateral: collateral("tdx_quote_outdated"),
    attestation: dstackCvm(),
    policy: hardwareAndLog,
    ...changes,
  });

const resultOf = (verdict: Verdict, id: CheckId) =>
  verdict.checks.find((check) => check.id === id)!.result;
const withEvents = (attestation: Attestation, runtimeEvents: readonly RuntimeEvent[]) => ({
  ...attestation,
  stack: { ...attestation.stack, runtimeEvents },
});

vectorTest("a dstack CVM of the field is accepted by its hardware and event log", async () => {
  const verdict = await appraiseQ1();
  assert.equal(verdict.reason, null);
  assert.equal(verdict.outcome, "accepted");
  assert.equal(verdict.tee, "dstack-tdx");
  assert.equal(verdict.simulated, false);
  assert.deepEqual(verdict.trustAnchor, { name: "intel-sgx-root-ca", simulated: false });
  assert.equal(verdict.evaluatedAt, "2026-03-01T00:00:00Z");
  assert.deepEqual(verdict.tcb, {
    status: "UpToDate",
    advisoryIds: [],
    platformStatus: "UpToDate",
    quotingEnclaveStatus: "UpToDate",
    levelDate: "2024-11-13T00:00:00Z",
    evaluationDataNumber: 18,
    fmspc: "90c06f000000",
    collateral: { validFrom: "2026-02-18T10:58:51Z", validUntil: "2026-03-20T10:41:15Z" },
  });
  assert.equal(
    verdict.measurements!["mr_td"],
    "b24d3b24e9e3c16012376b52362ca09856c4adecb709d5fac33addf1c47e193da075b125b6c364115771390a5461e217",
  );
  const identity = verdict.identity!;
  assert.equal(identity.appId, "3763bc34552cf3a27ff71ad5f7a90471562a1a2d");
  assert.equal(
    identity.mrSystem,
    "e1ae776a1492d4f87937b7e563d265c16300be4aba5d748207587023bb7dbb75",
  );
  assert.equal(
    identity.mrAggregated,
    "233c659f83048505bb1ef7f105245aa80f5d04e3d096c329da272d7ee13fbf38",
  );
  assert.equal(
    identity.osImageHash,
    "14ad42d0270b444eaeb53918a5a94d9b17eec7a817cd336173b17c5327541c67",
  );
  assert.equal(identity.keyProvider!.name, "local-sgx");
  assert.match(
    verdict.checks.find(({ id }) => id === "event-log-replay")!.detail,
    /RTMR0, RTMR1, RTMR2, RTMR3/,
  );
  assert.equal(resultOf(verdict, "os-image"), "not-checked");
  assert.equal(resultOf(verdict, "mr-config-id"), "not-applicable");
  assert.equal(requireAccepted(verdict), verdict);
});

vectorTest("the default policy refuses a CVM whose image nobody measured", async () => {
  const verdict = await appraise({
    ...ON_2026_03_01,
    attestation: dstackCvm(),
    collateral: collateral("tdx_quote_outdated"),
  });
  assert.equal(verdict.outcome, "refused");
  assert.equal(verdict.reason!.code, "mr-config-id-missing");
  assert.equal(resultOf(verdict, "policy"), "failed");
  assert.throws(() => requireAccepted(verdict), {
    code: "attestation/refused",
    fields: { reason: verdict.reason },
  });
});

vectorTest("a required check that could not run refuses", async () => {
  const verdict = await appraiseQ1({ policy: policyWith({ require: ["os-image"] }, QUOTE_POLICY) });
  assert.equal(verdict.reason!.code, "required-check-not-run");
  assert.equal(verdict.reason!.detail, "Required checks did not pass: os-image");
});

const q1Refusals: readonly (readonly [
  string,
  string,
  (q1: Attestation) => Partial<AppraisalInput>,
])[] = [
  ["no collateral", "collateral-missing", () => ({ collateral: undefined })],
  [
    "collateral of the year before",
    "crl-expired",
    () => ({ collateral: collateral("tdx_quote") }),
  ],
  ["no trust anchor", "certificate-untrusted", () => ({ trustAnchors: [] })],
  [
    "a TCB status the policy does not allow",
    "tcb-status-not-allowed",
    () => ({ policy: policyWith({ allowedTcbStatuses: ["OutOfDate"] }, hardwareAndLog) }),
  ],
  [
    "an older TCB evaluation than required",
    "tcb-evaluation-too-old",
    () => ({ policy: policyWith({ minEvaluationDataNumber: 19 }, hardwareAndLog) }),
  ],
  [
    "another challenge",
    "report-data-mismatch",
    () => ({ expectedReportData: new Uint8Array(64) }),
  ],
  ["report data the quote does not bind", "report-data-mismatch", (q1) => ({
    attestation: { ...q1, stack: { ...q1.stack, reportData: new Uint8Array(64) } },
  })],
  ["reordered runtime events", "event-log-mismatch", (q1) => {
    const [first, second, ...rest] = q1.stack.runtimeEvents;
    return { attestation: withEvents(q1, [second!, first!, ...rest]) };
  }],
  ["a duplicated runtime event", "event-log-mismatch", (q1) => {
    const [first, ...rest] = q1.stack.runtimeEvents;
    return { attestation: withEvents(q1, [first!, first!, ...rest]) };
  }],
  ["a dropped runtime event", "event-log-mismatch", (q1) => ({
    attestation: withEvents(q1, q1.stack.runtimeEvents.slice(0, -1)),
  })],
  ["a changed payload", "event-log-mismatch", (q1) => ({
    attestation: withEvents(
      q1,
      q1.stack.runtimeEvents.map((event) =>
        event.event === "app-id" ? { ...event, payload: new Uint8Array(20) } : event
      ),
    ),
  })],
  ["a boot event whose digest changed", "event-log-mismatch", (q1) => {
    assert.ok(q1.platform.kind === "tdx");
    const [first, ...rest] = q1.platform.eventLog;
    const digest = first!.digest.slice();
    digest[0]! ^= 1;
    return {
      attestation: {
        ...q1,
        platform: { ...q1.platform, eventLog: [{ ...first!, digest }, ...rest] },
      },
    };
  }],
  ["another app", "app-id-mismatch", () => ({ reference: { appId: new Uint8Array(20) } })],
  [
    "another compose file",
    "compose-hash-mismatch",
    () => ({ reference: { composeHash: new Uint8Array(32) } }),
  ],
  [
    "another instance",
    "instance-id-mismatch",
    () => ({ reference: { instanceId: new Uint8Array(20) } }),
  ],
  [
    "another key provider",
    "key-provider-mismatch",
    () => ({ reference: { keyProvider: { name: "kms" } } }),
  ],
  ["a quote cut short", "evidence-malformed", (q1) => {
    assert.ok(q1.platform.kind === "tdx");
    const quote = q1.platform.quote.slice(0, 4000);
    return { attestation: { ...q1, platform: { ...q1.platform, quote } } };
  }],
  ["a quote with a byte behind its padding", "evidence-malformed", (q1) => {
    assert.ok(q1.platform.kind === "tdx");
    const quote = Uint8Array.of(...q1.platform.quote, 1);
    return { attestation: { ...q1, platform: { ...q1.platform, quote } } };
  }],
];
for (const [what, code, changes] of q1Refusals) {
  vectorTest(`refused: ${what}`, async () => {
    const verdict = await appraiseQ1(changes(dstackCvm()));
    assert.equal(verdict.outcome, "refused");
    assert.equal(verdict.reason!.code, code);
    assert.equal(resultOf(verdict, verdict.reason!.check), "failed");
  });
}

vectorTest("zero padding behind a quote is no change", async () => {
  const q1 = dstackCvm();
  assert.ok(q1.platform.kind === "tdx");
  const quote = Uint8Array.of(...q1.platform.quote, 0, 0);
  const verdict = await appraiseQ1({ attestation: { ...q1, platform: { ...q1.platform, quote } } });
  assert.equal(verdict.outcome, "accepted");
});

vectorTest("what the reference names is compared", async () => {
  const keyProvider = "1b7a49378403249b6986a907844cab0921eca32dd47e657f3c10311ccaeccf8b";
  const verdict = await appraiseQ1({
    expectedReportData: Uint8Array.of(0x12, 0x34, ...new Uint8Array(62)),
    reference: {
      appId: fromHex("3763bc34552cf3a27ff71ad5f7a90471562a1a2d"),
      instanceId: fromHex("c3714eb66990eace777b4e664c16e09375dec4c9"),
      keyProvider: { name: "local-sgx", id: keyProvider },
    },
  });
  assert.equal(verdict.reason, null);
  for (const id of ["report-data", "app-id", "instance-id", "key-provider"] as const) {
    assert.equal(resultOf(verdict, id), "passed", id);
  }
});

vectorTest("a bare quote is judged by its hardware alone", async () => {
  const input = {
    attestation: { quote: vectorBytes("intel/sgx_quote") },
    collateral: collateral("sgx_quote"),
    trustAnchors: [INTEL_TRUST_ANCHOR],
    now: new Date("2025-07-01T00:00:00Z"),
  };
  const strict = await appraise({ ...input, policy: QUOTE_POLICY });
  assert.equal(strict.tee, "intel-sgx");
  assert.equal(strict.reason!.code, "tcb-status-not-allowed");
  assert.deepEqual(strict.tcb!.advisoryIds, ["INTEL-SA-00289", "INTEL-SA-00615"]);
  const allowing = policyWith({
    allowedTcbStatuses: ["ConfigurationAndSWHardeningNeeded"],
  }, QUOTE_POLICY);
  const advisories = await appraise({ ...input, policy: allowing });
  assert.equal(advisories.reason!.code, "advisory-not-allowed");
  const lenient = await appraise({
    ...input,
    policy: { ...allowing, allowedAdvisories: "any" },
  });
  assert.equal(lenient.outcome, "accepted");
  assert.equal(resultOf(lenient, "tee-attributes"), "passed");
});

vectorTest("the lite fixture: registers recompute from the document it carries", async () => {
  const fixture = JSON.parse(vectorText("dstack/tdx-lite-attestation.json")) as {
    attestation: string;
  };
  const attestation = decodeAttestation(fromHex(fixture.attestation));
  assert.ok(attestation.platform.kind === "tdx");
  const td = tdReportOf(parseQuote(attestation.platform.quote));
  const { eventLog } = attestation.platform;
  const { config, runtimeEvents } = attestation.stack;
  const hash = await provenOsImage(td, eventLog, config, {});
  assert.equal(
    toHex(hash!),
    "e6f5cfec20c02e7b97baa213d0f718020b55e040172d90ccbcb946d56c8b09db",
  );
  assert.deepEqual(requireReplay(td, eventLog, runtimeEvents), [3]);
  const info = appInfoOf(attestation);
  assert.equal(
    toHex(info.mrSystem),
    "118f754a080ecb8527df65656ee4e7e97b891cf488ad6a38886ff0dbca0c8f70",
  );
  assert.equal(
    toHex(info.mrAggregated),
    "c758fa624b62536ca77504c4c52745e70880220a178a615a859c52f8b101d2ee",
  );
  const boot = appInfoOf(attestation, { bootTime: true });
  assert.equal(
    toHex(boot.mrSystem),
    "37a91fd6aac229d83a1850be9bf017455d1cf4815e8fcb77332119de7e1a52f7",
  );
  assert.equal(
    toHex(boot.mrAggregated),
    "f4e6117e0fdea4b23b5f32a2a59e7b7b99b64df237a9536fb2cb5ca2a270145e",
  );
  const claim = utf8("dip1::secp256k1c-pk:A55pWmteJIJOj8_pI7-pzeDxy1G2q18GDv88HNRdBXkQ");
  assert.equal(toHex(td.reportData), toHex(claim));

  const otherMemory = config.replace('"memory_size":2147483648', '"memory_size":8589934592');
  await assert.rejects(() => provenOsImage(td, eventLog, otherMemory, {}), {
    code: "attestation/refused",
    message: "RTMR0 is not what this image and VM shape yield",
  });
  const otherImage = config.replace("e6f5cfec20c0", "f6f5cfec20c0");
  await assert.rejects(() => provenOsImage(td, eventLog, otherImage, {}), (error) => {
    return (error as { fields: { reason: { code: string } } }).fields.reason.code ===
      "os-image-document-mismatch";
  });
  await assert.rejects(() => provenOsImage(td, eventLog, config, { osImageHashes: [] }), {
    code: "attestation/refused",
  });
});

vectorTest("the lite fixture booted with the ACPI tables QEMU makes for its VM", async () => {
  const { attestation } = JSON.parse(vectorText("dstack/tdx-lite-attestation.json"));
  const verdict = await appraise({
    attestation: decodeAttestation(fromHex(attestation)),
    collateral: undefined,
    trustAnchors: [INTEL_TRUST_ANCHOR],
    now: new Date("2026-03-01T00:00:00Z"),
  });
  assert.equal(verdict.reason!.code, "collateral-missing");
  assert.equal(resultOf(verdict, "os-image"), "passed");
  assert.equal(resultOf(verdict, "acpi-tables"), "passed");
});

vectorTest("the simulator fixture: replay, measurements, MRCONFIGID version 1", () => {
  const attestation = decodeAttestation(vectorBytes("dstack/simulator/attestation.bin"));
  assert.ok(attestation.platform.kind === "tdx");
  const td = tdReportOf(parseQuote(attestation.platform.quote));
  const { eventLog } = attestation.platform;
  const { runtimeEvents, config } = attestation.stack;
  const counts = [0, 1, 2, 3].map((imr) => eventLog.filter((event) => event.imr === imr).length);
  assert.deepEqual(counts, [17, 5, 2, 9]);
  assert.deepEqual(requireReplay(td, eventLog, runtimeEvents), [0, 1, 2, 3]);
  assert.equal(checkMrConfig(td.mrConfigId, runtimeEvents, config, {}), 1);
  const info = appInfoOf(attestation);
  assert.equal(
    toHex(info.mrSystem),
    "51ea38f8eee6dc72dbae9b74531ae6d6204295d265dabb4e6c34621a2a1a1197",
  );
  assert.equal(
    toHex(info.mrAggregated),
    "85334a62c97d0f8bf82d0245d31b539d17a2d7c258e2a13efc928aaea0e107cb",
  );
  assert.match(toHex(info.osImageHash), /^e61be43dd1cc6a6f/);
});

vectorTest("the same input yields the same bytes", async () => {
  assert.equal(encodeVerdict(await appraiseQ1()), encodeVerdict(await appraiseQ1()));
});
