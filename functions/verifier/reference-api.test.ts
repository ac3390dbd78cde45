import assert from "node:assert/strict";
import { test } from "node:test";
import { appraise } from "#core/attestation/appraise.ts";
import { INTEL_TRUST_ANCHOR, type TrustAnchor } from "#core/attestation/trust-anchor.ts";
import { encodeAttestation } from "#core/attestation/versioned-attestation.ts";
import { toHex } from "#core/bytes/bytes.ts";
import { parseCollateralJson, type QuoteCollateral } from "#core/tdx/collateral.ts";
import { simulatedCvm } from "../../tests/simulated-cvm.ts";
import { vectorTest, vectorText } from "../../tests/vectors.ts";
import { answerReference, REFERENCE_POLICY } from "./reference-api.ts";

const NOW = new Date("2026-06-01T12:00:00Z");

const answer = (
  body: unknown,
  collateral: QuoteCollateral,
  anchor: TrustAnchor,
  now = NOW,
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
      }),
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
    acpi_tables_verified: false, // lite
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
