import assert from "node:assert/strict";
import { test } from "node:test";
import { build } from "esbuild";
import { Miniflare } from "miniflare";
import { type AppraisalInput, appraise } from "../../core/attestation/appraise.ts";
import type { Attestation } from "../../core/attestation/attestation.ts";
import { policyWith, QUOTE_POLICY } from "../../core/attestation/policy.ts";
import { INTEL_TRUST_ANCHOR, parseTrustAnchor } from "../../core/attestation/trust-anchor.ts";
import { encodeVerdict } from "../../core/attestation/verdict.ts";
import {
  attestationFromTdxQuote,
  encodeAttestation,
} from "../../core/attestation/versioned-attestation.ts";
import { fromHex, toHex } from "../../core/bytes/bytes.ts";
import { parseEventLogJson } from "../../core/event-log/tdx-event.ts";
import { collateralToJson, parseCollateralJson } from "../../core/tdx/collateral.ts";
import { simulatedCvm } from "../simulated-cvm.ts";
import { vectorTest, vectorText } from "../vectors.ts";

/** A Worker that appraises what it is sent; its verdict must be the one made here, byte for byte. */
const WORKER = `
import { appraise } from "./core/attestation/appraise.ts";
import { parseTrustAnchor } from "./core/attestation/trust-anchor.ts";
import { encodeVerdict } from "./core/attestation/verdict.ts";
import { decodeAttestation } from "./core/attestation/versioned-attestation.ts";
import { fromHex } from "./core/bytes/bytes.ts";
import { collateralFromJson } from "./core/tdx/collateral.ts";
export default {
  async fetch(request) {
    const { attestation, collateral, root, policy, now } = await request.json();
    const verdict = await appraise({
      attestation: decodeAttestation(fromHex(attestation)),
      collateral: collateralFromJson(collateral),
      trustAnchors: [parseTrustAnchor(root.name, fromHex(root.der))],
      policy,
      now: new Date(now),
    });
    return new Response(encodeVerdict(verdict));
  },
};`;

async function workerVerdict(input: AppraisalInput): Promise<string> {
  const { outputFiles } = await build({
    stdin: { contents: WORKER, resolveDir: new URL("../..", import.meta.url).pathname },
    bundle: true,
    format: "esm",
    platform: "browser",
    write: false,
  });
  const worker = new Miniflare({
    modules: true,
    script: outputFiles[0]!.text,
    compatibilityDate: "2026-01-01",
  });
  try {
    const [anchor] = input.trustAnchors;
    const answer = await worker.dispatchFetch("http://worker/", {
      method: "POST",
      body: JSON.stringify({
        attestation: toHex(encodeAttestation(input.attestation as Attestation)),
        collateral: collateralToJson(input.collateral!),
        root: { name: anchor!.name, der: toHex(anchor!.certificate.encoded) },
        policy: input.policy,
        now: input.now.toISOString(),
      }),
    });
    return await answer.text();
  } finally {
    await worker.dispose();
  }
}

const sameVerdict = async (input: AppraisalInput, outcome: "accepted" | "refused") => {
  const here = await appraise(input);
  assert.equal(here.outcome, outcome);
  assert.equal(await workerVerdict(input), encodeVerdict(here));
};

vectorTest("workerd gives the verdict of Node on a captured CVM", async () => {
  const report = JSON.parse(vectorText("dstack/quote-report.json")) as {
    quote: string;
    event_log: string;
    vm_config: string;
  };
  const input = {
    attestation: attestationFromTdxQuote(
      fromHex(report.quote),
      parseEventLogJson(report.event_log),
      report.vm_config,
    ),
    collateral: parseCollateralJson(vectorText("intel/tdx_quote_outdated_collateral.json")),
    trustAnchors: [INTEL_TRUST_ANCHOR],
    policy: policyWith({ require: ["event-log-replay", "launch-events"] }, QUOTE_POLICY),
    now: new Date("2026-03-01T00:00:00Z"),
  };
  await sameVerdict(input, "accepted");
  await sameVerdict({ ...input, now: new Date("2026-04-01T00:00:00Z") }, "refused");
});

test("workerd gives the verdict of Node on a simulated CVM", async () => {
  const cvm = simulatedCvm();
  const now = new Date("2026-11-22T08:30:00Z");
  const trustAnchors = [parseTrustAnchor("simulated", cvm.platform.rootCertificateDer)];
  const input = {
    attestation: cvm.attestation,
    collateral: cvm.platform.collateral(now),
    trustAnchors,
    now,
  };
  await sameVerdict(input, "accepted");
});
