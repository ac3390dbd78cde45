import assert from "node:assert/strict";
import { test } from "node:test";
import {
  INTEL_TRUST_ANCHOR,
  parseTrustAnchor,
  VENDOR_TRUST_ANCHORS,
} from "#core/attestation/trust-anchor.ts";
import { encodeVerdict, type Verdict } from "#core/attestation/verdict.ts";
import { encodeAttestation } from "#core/attestation/versioned-attestation.ts";
import { toHex } from "#core/bytes/bytes.ts";
import { decodeOnePem } from "#core/encoding/pem.ts";
import { AppError } from "#core/errors/app-error.ts";
import type { Metrics } from "#core/http/metrics.ts";
import { noMetrics } from "#core/http/metrics.ts";
import { collateralToJson } from "#core/tdx/collateral.ts";
import { simulatedCvm } from "../../tests/simulated-cvm.ts";
import { vectorBytes, vectorTest, vectorText } from "../../tests/vectors.ts";
import { webCrypto } from "#core/crypto/crypto-provider.ts";
import { EndorsementCache } from "#core/tdx/endorsement-cache.ts";
import { createVerifierApp } from "./app.ts";
import type { VerifierPorts } from "./ports.ts";
import { MAX_REQUEST_BYTES } from "./request.ts";

const NOW = new Date("2026-06-01T12:00:00Z");
const cvm = simulatedCvm();
const attestation = toHex(encodeAttestation(cvm.attestation));

function setup(changes: Partial<VerifierPorts> = {}) {
  const verdicts: Verdict[] = [];
  const errors: unknown[] = [];
  const counted: unknown[] = [];
  const metrics: Metrics = {
    ...noMetrics,
    counter: ({ name }) => ({ add: (amount, labels) => counted.push({ name, amount, labels }) }),
  };
  const app = createVerifierApp({
    now: () => NOW,
    trustAnchors: [parseTrustAnchor("lab", cvm.platform.rootCertificateDer)],
    collateralFor: async () => cvm.platform.collateral(NOW),
    vendorDocumentsFor: () => Promise.resolve(undefined),
    crypto: webCrypto,
    endorsements: new EndorsementCache(),
    logVerdict: (verdict) => verdicts.push(verdict),
    logError: (error) => errors.push(error),
    metrics,
    version: { version: "0.1.0", rev: "unknown" },
    ...changes,
  });
  const post = async (body: unknown, path = "/v1/verify") => {
    const text = typeof body === "string" ? body : JSON.stringify(body);
    return await app.request(path, { method: "POST", body: text });
  };
  return { app, post, verdicts, errors, counted };
}

/** Of the vectors: Q1 of attestation.md 9.1. */
const captured = () => {
  const { quote, event_log, vm_config } = JSON.parse(vectorText("dstack/quote-report.json"));
  return {
    quote,
    event_log,
    vm_config,
    collateral: JSON.parse(vectorText("intel/tdx_quote_outdated_collateral.json")),
    time: "2026-03-01T00:00:00Z",
    policy: { require: ["event-log-replay", "launch-events"] },
  };
};
const intel = { trustAnchors: [INTEL_TRUST_ANCHOR] };

vectorTest("POST /v1/verify accepts a captured CVM at its time", async () => {
  const { post } = setup(intel);
  const response = await post(captured());
  assert.equal(response.status, 200);
  assert.equal(response.headers.get("content-type"), "application/json");
  const verdict = await response.json() as Verdict;
  assert.equal(verdict.outcome, "accepted");
  assert.equal(verdict.simulated, false);
  assert.equal(verdict.tcb?.status, "UpToDate");
  // attestation.md 9.2, Q1
  assert.equal(verdict.identity?.appId, "3763bc34552cf3a27ff71ad5f7a90471562a1a2d");
  assert.equal(verdict.measurements?.["mr_td"]?.slice(0, 16), "b24d3b24e9e3c160");
});

vectorTest("a refusal is an answer too: 200, with its reason", async () => {
  const { post } = setup(intel);
  const changes: [Record<string, unknown>, string][] = [
    [{ time: "2026-04-01T00:00:00Z" }, "crl-expired"],
    [{ policy: {} }, "mr-config-id-missing"],
    [{ reference: { compose_hash: "00".repeat(32) } }, "compose-hash-mismatch"],
    [{ report_data: "00".repeat(64) }, "report-data-mismatch"],
    [{ event_log: "[]" }, "event-log-mismatch"],
  ];
  for (const [change, reason] of changes) {
    const response = await post({ ...captured(), ...change });
    assert.equal(response.status, 200);
    const verdict = await response.json() as Verdict;
    assert.deepEqual([verdict.outcome, verdict.reason?.code], ["refused", reason]);
  }
});

vectorTest("quotes by themselves are judged when the caller asks for no more", async () => {
  const { post } = setup(intel);
  const body = (require?: string[]) => ({
    quote: toHex(vectorBytes("intel/tdx_quote")),
    collateral: JSON.parse(vectorText("intel/tdx_quote_collateral.json")),
    time: "2025-07-01T00:00:00Z",
    ...(require && { policy: { require } }),
  });
  const outcome = async (body: unknown) => {
    const { outcome, reason } = await (await post(body)).json() as Verdict;
    return reason?.code ?? outcome;
  };
  assert.equal(await outcome(body([])), "accepted");
  assert.equal(await outcome(body()), "required-check-not-run");
  assert.equal(
    await outcome({ ...body([]), reference: { compose_hash: "00".repeat(32) } }),
    "required-check-not-run",
  );
});

test("collateral comes from the PCCS unless the request brings it", async () => {
  let fetched = 0;
  const { post, verdicts, counted } = setup({
    collateralFor: async () => (fetched++, cvm.platform.collateral(NOW)),
  });
  const here = await (await post({ attestation })).text();
  assert.equal(fetched, 1);
  const collateral = collateralToJson(cvm.platform.collateral(NOW));
  assert.equal(await (await post({ attestation, collateral })).text(), here);
  assert.equal(fetched, 1);
  const verdict = JSON.parse(here) as Verdict;
  assert.deepEqual([verdict.outcome, verdict.simulated], ["accepted", true]);
  assert.equal(verdict.evaluatedAt, "2026-06-01T12:00:00Z");
  assert.deepEqual(verdicts.map(encodeVerdict), [here, here]);
  const labels = { outcome: "accepted", reason: "", simulated: "true" };
  assert.deepEqual(counted[0], { name: "dstack_verifier_verdicts_total", amount: 1, labels });
});

test("a PCCS that is down is neither acceptance nor refusal", async () => {
  const down = new AppError("upstream/unavailable", "The PCCS cannot be reached");
  const { post, verdicts, errors } = setup({ collateralFor: () => Promise.reject(down) });
  const response = await post({ attestation });
  assert.equal(response.status, 503);
  assert.equal(response.headers.get("content-type"), "application/problem+json");
  assert.deepEqual(verdicts, []);
  assert.deepEqual(errors, [down]);
});

test("evidence whose quote cannot be read is refused, not fetched for", async () => {
  const { post } = setup({ collateralFor: () => Promise.reject(new Error("never asked")) });
  const response = await post({ quote: "0400", policy: { require: [] } });
  assert.equal(response.status, 200);
  const { reason } = await response.json() as Verdict;
  assert.equal(reason?.code, "evidence-malformed");
});

for (
  const [what, status, body] of [
    ["no JSON", 400, "quote"],
    ["no evidence", 400, {}],
    ["an unknown member", 400, { attestation, trust: "me" }],
    ["evidence that is not hex", 400, { attestation: "xyz" }],
    ["too much", 413, `"${"0".repeat(MAX_REQUEST_BYTES)}"`],
  ] as const
) {
  test(`POST /v1/verify answers ${status} to ${what}`, async () => {
    const response = await setup().post(body);
    assert.equal(response.status, status);
    assert.equal(response.headers.get("content-type"), "application/problem+json");
    const problem = await response.json() as { status: number; detail: string };
    assert.equal(problem.status, status);
    assert.ok(problem.detail.length < 400);
  });
}

vectorTest("evidence of another vendor is refused where only Intel is trusted", async () => {
  const nitro = toHex(vectorBytes("dstack/nitro_attestation.bin"));
  const time = "2025-12-25T16:04:18Z";
  const { reason } = await (await setup(intel).post({ attestation: nitro, time }))
    .json() as Verdict;
  assert.equal(reason!.code, "certificate-untrusted");
  const vendors = setup({ trustAnchors: VENDOR_TRUST_ANCHORS });
  const verdict = await (await vendors.post({ attestation: nitro, time })).json() as Verdict;
  assert.equal(verdict.outcome, "accepted");
  assert.equal(verdict.tee, "dstack-nitro-enclave");
});

vectorTest("a vendor's documents come with the request, or are fetched", async () => {
  const snp = toHex(vectorBytes("dstack/sev_snp_attestation.bin"));
  const certificates = ["ask", "vcek"].map((name) =>
    decodeOnePem("CERTIFICATE", vectorText(`dstack/sev_snp_${name}.pem`))
  );
  const time = "2026-08-01T00:00:00Z";
  let asked = 0;
  const { post } = setup({
    trustAnchors: VENDOR_TRUST_ANCHORS,
    vendorDocumentsFor: () => (asked++, Promise.resolve({ certificates })),
  });
  const chainOf = async (more: object) => {
    const response = await post({ attestation: snp, time, ...more });
    const { checks } = await response.json() as Verdict;
    return checks.find(({ id }) => id === "signature-chain")!.result;
  };
  assert.equal(await chainOf({}), "passed");
  const vendor_documents = { certificates: certificates.map(toHex), crls: [] };
  assert.equal(await chainOf({ vendor_documents }), "passed");
  assert.equal(asked, 1);
  assert.equal(await chainOf({ vendor_documents: {} }), "failed");
});

test("an unexpected failure says nothing about itself", async () => {
  const { post, errors } = setup({
    collateralFor: () => Promise.reject(new Error("password=hunter2")),
  });
  const response = await post({ attestation });
  assert.equal(response.status, 500);
  assert.doesNotMatch(await response.text(), /hunter2/);
  assert.equal(errors.length, 1);
});

test("POST /v1/collateral hands out what the PCCS said", async () => {
  const { post } = setup();
  const { platform } = cvm.attestation;
  const quote = platform.kind === "tdx" ? toHex(platform.quote) : "";
  const response = await post({ quote }, "/v1/collateral");
  assert.deepEqual(await response.json(), collateralToJson(cvm.platform.collateral(NOW)));
  assert.equal((await post({ quote: "00" }, "/v1/collateral")).status, 400);
  assert.equal((await post({ quote, url: "http://x" }, "/v1/collateral")).status, 400);
});

test("the reference's paths answer what its clients expect", async () => {
  const { app, post } = setup();
  const health = await app.request("/health");
  assert.deepEqual(await health.json(), { status: "ok", service: "dstack-verifier" });
  const valid = await (await post({ attestation }, "/verify")).json() as { is_valid: boolean };
  assert.equal(valid.is_valid, true);
  const empty = await post({}, "/verify");
  assert.equal(empty.status, 200);
  const { reason } = await empty.json() as { reason: string };
  assert.equal(reason, "Internal error: Quote is required");
  assert.equal((await post("{", "/verify")).status, 400);
});

test("any page may call; no page may frame ours", async () => {
  const { app, post } = setup({ page: "<!doctype html><title>verify</title>" });
  assert.equal((await post({ attestation })).headers.get("access-control-allow-origin"), "*");
  const preflight = await app.request("/v1/verify", {
    method: "OPTIONS",
    headers: {
      origin: "null",
      "access-control-request-method": "POST",
      "access-control-request-headers": "content-type",
    },
  });
  assert.equal(preflight.status, 204);
  assert.equal(preflight.headers.get("access-control-allow-headers"), "content-type");
  const page = await app.request("/");
  assert.match(page.headers.get("content-type")!, /^text\/html/);
  assert.equal(page.headers.get("content-security-policy"), "frame-ancestors 'none'");
  assert.equal((await setup().app.request("/")).status, 404);
});

test("health, version and document are where every service has them", async () => {
  const { app } = setup();
  for (const path of ["/healthz", "/readyz", "/version", "/openapi.json"]) {
    assert.equal((await app.request(path)).status, 200, path);
  }
  const { paths } = await (await app.request("/openapi.json")).json();
  assert.deepEqual(Object.keys(paths["/v1/verify"].post.responses), [
    "200",
    "400",
    "413",
    "502",
    "503",
  ]);
});
