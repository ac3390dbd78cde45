import assert from "node:assert/strict";
import { test } from "node:test";
import { sha384 } from "@noble/hashes/sha2.js";
import { appraise } from "#core/attestation/appraise.ts";
import type { TdxEvidence } from "#core/attestation/attestation.ts";
import type { Reference, ReferenceRegisters } from "#core/attestation/reference.ts";
import { INTEL_TRUST_ANCHOR, type TrustAnchor } from "#core/attestation/trust-anchor.ts";
import { encodeAttestation, tdReportOf } from "#core/attestation/versioned-attestation.ts";
import { toHex } from "#core/bytes/bytes.ts";
import { parseCollateralJson, type QuoteCollateral } from "#core/tdx/collateral.ts";
import { parseQuote } from "#core/tdx/quote.ts";
import { type SimulatedCvm, simulatedCvm } from "../../tests/simulated-cvm.ts";
import { vectorTest, vectorText } from "../../tests/vectors.ts";
import { answerReference, REFERENCE_POLICY } from "./reference-api.ts";

const NOW = new Date("2026-06-01T12:00:00Z");

const answer = (
  body: unknown,
  collateral: QuoteCollateral,
  anchor: TrustAnchor,
  now = NOW,
  registersOf?: Reference["registersOf"],
) =>
  answerReference(
    JSON.stringify(body),
    (attestation) =>
      appraise({
        attestation,
        collateral,
        now,
        trustAnchors: [anchor],
        policy: REFERENCE_POLICY,
        reference: registersOf ? { registersOf } : {},
      }),
    registersOf,
  );

test("a valid CVM has every member of the reference's answer", async () => {
  const cvm = simulatedCvm();
  const attestation = toHex(encodeAttestation(cvm.attestation));
  const { is_valid, reason, details } = await answer(
    { attestation, quote: "ignored", event_log: "ignored" },
    cvm.platform.collateral(NOW),
    cvm.trustAnchor,
  );
  assert.deepEqual([is_valid, reason], [true, null]);
  const { app_info, boot_info, ...rest } = details;
  assert.deepEqual(rest, {
    quote_verified: true,
    event_log_verified: true,
    os_image_hash_verified: true,
    acpi_tables_verified: true,
    os_image_is_dev: null,
    os_image_version: null,
    tee_variant: "dstack-tdx",
    report_data: "00".repeat(64),
    tcb_status: "UpToDate",
    advisory_ids: [],
    key_provider: { name: "kms", id: "3059" },
  });
  assert.equal(app_info?.["app_id"], toHex(cvm.appId));
  assert.equal(
    app_info?.["key_provider_info"],
    toHex(new TextEncoder().encode('{"name":"kms","id":"3059"}')),
  );
  assert.deepEqual(Object.keys(boot_info!), [
    "teeVariant",
    "mrAggregated",
    "osImageHash",
    "mrSystem",
    "appId",
    "composeHash",
    "instanceId",
    "deviceId",
    "keyProviderInfo",
    "tcbStatus",
    "advisoryIds",
  ]);
});

vectorTest("a captured legacy CVM has a good quote, and an image nobody supplied", async () => {
  const report = JSON.parse(vectorText("dstack/quote-report.json")) as object;
  const collateral = parseCollateralJson(vectorText("intel/tdx_quote_outdated_collateral.json"));
  const now = new Date("2026-03-01T00:00:00Z");
  const { is_valid, reason, details } = await answer(report, collateral, INTEL_TRUST_ANCHOR, now);
  assert.equal(is_valid, false);
  assert.match(reason!, /^OS image hash verification failed: /);
  assert.equal(details.quote_verified, true);
  assert.equal(details.boot_info, undefined);
  // attestation.md 9.2, Q1
  assert.equal(
    details.app_info?.["mr_aggregated"],
    "233c659f83048505bb1ef7f105245aa80f5d04e3d096c329da272d7ee13fbf38",
  );
});

test("what cannot be verified at all is an internal error, as the reference says it", async () => {
  const { platform, trustAnchor } = simulatedCvm();
  const judged = async (body: unknown) =>
    (await answer(body, platform.collateral(NOW), trustAnchor)).reason;
  assert.equal(await judged({}), "Internal error: Quote is required");
  assert.equal(await judged({ quote: "00" }), "Internal error: Event log is required");
  assert.match((await judged({ attestation: "zz" }))!, /^Internal error: .*not a hex string/);
  assert.match(
    (await judged({ quote: "0400", event_log: "[]" }))!,
    /^(Internal error|Quote verification failed): /,
  );
  await assert.rejects(answerReference("{", () => Promise.reject()), { code: "input/malformed" });
});

const requestOf = (cvm: SimulatedCvm) => ({
  attestation: toHex(encodeAttestation(cvm.attestation)),
});
const bootLogOf = ({ attestation: { platform } }: SimulatedCvm) =>
  (platform as TdxEvidence).eventLog.filter(({ imr }) => imr < 3);

/** A legacy CVM, and what a store that keeps its image says about it. */
function legacyCvm(change: Partial<ReferenceRegisters> = {}) {
  const cvm = simulatedCvm({
    config: { tdx_attestation_variant: "legacy", tdx_measurement: null },
  });
  const { mrTd, rtmrs } = tdReportOf(
    parseQuote((cvm.attestation.platform as TdxEvidence).quote),
  );
  const registersOf = () =>
    Promise.resolve({
      mrTd,
      rtmrs: [rtmrs[0], rtmrs[1], rtmrs[2]] as const,
      events: bootLogOf(cvm).map((event) => ({ ...event, label: "" })),
      image: { version: "0.5.6", isDev: true },
      ...change,
    });
  return { cvm, registersOf };
}

test("of a legacy CVM it says which image it is, in production or not", async () => {
  const { cvm, registersOf } = legacyCvm();
  const { is_valid, details } = await answer(
    requestOf(cvm),
    cvm.platform.collateral(NOW),
    cvm.trustAnchor,
    NOW,
    registersOf,
  );
  assert.equal(is_valid, true);
  assert.deepEqual([details.os_image_is_dev, details.os_image_version], [true, "0.5.6"]);
  assert.equal(details.acpi_tables_verified, true);
  assert.deepEqual([details.acpi_tables, details.rtmr_debug], [undefined, undefined]);
});

test("debug shows the ACPI tables, and the events of registers that differ", async () => {
  const good = simulatedCvm();
  const collateral = good.platform.collateral(NOW);
  const shown = await answer({ ...requestOf(good), debug: true }, collateral, good.trustAnchor);
  const { tables } = shown.details.acpi_tables!;
  assert.match(tables, /^46414353/, "the blob begins with FACS");
  const log = bootLogOf(good);
  const measured = log.find(({ event }) => event === "acpi-tables")!;
  assert.equal(toHex(sha384(Buffer.from(tables, "hex"))), toHex(measured.digest));
  assert.equal(shown.details.rtmr_debug, undefined);

  const otherEvents = log.map((event) => ({
    ...event,
    label: "",
    ...(event === log.findLast(({ imr }) => imr === 1) && { digest: new Uint8Array(48) }),
  }));
  const kept = legacyCvm();
  const { rtmrs } = await kept.registersOf();
  const bad = legacyCvm({
    rtmrs: [rtmrs[0], new Uint8Array(48), rtmrs[2]],
    events: otherEvents,
  });
  const refused = await answer(
    { ...requestOf(bad.cvm), debug: true },
    collateral,
    bad.cvm.trustAnchor,
    NOW,
    bad.registersOf,
  );
  assert.equal(refused.is_valid, false);
  const [entry, ...others] = refused.details.rtmr_debug!;
  assert.equal(others.length, 0);
  assert.deepEqual([entry!.rtmr, entry!.expected, entry!.actual], [
    1,
    "00".repeat(48),
    toHex(rtmrs[1]),
  ]);
  // A log in an attestation is stripped of the events of RTMR1.
  assert.equal(entry!.events.length + (entry!.missing_expected_digests ?? []).length, 5);
});

test("debug says nothing about evidence that is not genuine", async () => {
  const { cvm, registersOf } = legacyCvm();
  const { details } = await answer(
    { ...requestOf(cvm), debug: true },
    cvm.platform.collateral(NOW),
    INTEL_TRUST_ANCHOR,
    NOW,
    () => assert.fail("no image may be looked up") as ReturnType<typeof registersOf>,
  );
  assert.equal(details.quote_verified, false);
  assert.deepEqual([details.acpi_tables, details.rtmr_debug], [undefined, undefined]);
});
