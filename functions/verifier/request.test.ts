import assert from "node:assert/strict";
import { test } from "node:test";
import { DEFAULT_POLICY, QUOTE_POLICY } from "#core/attestation/policy.ts";
import { encodeAttestation } from "#core/attestation/versioned-attestation.ts";
import { toHex } from "#core/bytes/bytes.ts";
import { simulatedCvm } from "../../tests/simulated-cvm.ts";
import { verifierOpenApi } from "./openapi.ts";
import { MAX_REQUEST_BYTES, parseVerificationRequest, REQUEST_MEMBERS } from "./request.ts";

const cvm = simulatedCvm();
const attestation = toHex(encodeAttestation(cvm.attestation));
const parse = (members: Record<string, unknown>) =>
  parseVerificationRequest(JSON.stringify({ attestation, ...members }));

test("an attestation alone asks for the whole CVM, judged now", () => {
  const request = parse({});
  assert.deepEqual(request.policy, DEFAULT_POLICY);
  assert.deepEqual(request.reference, {});
  assert.equal(request.time, undefined);
  assert.equal(request.collateral, undefined);
  assert.ok("platform" in request.attestation);
});

test("a quote by itself must still pass what a CVM must, unless the caller says otherwise", () => {
  const bare = (members: object) => parseVerificationRequest(JSON.stringify(members));
  const quote = "00ff";
  assert.deepEqual(bare({ quote }).attestation, { quote: Uint8Array.of(0, 255) });
  assert.deepEqual(bare({ quote }).policy.required, DEFAULT_POLICY.required);
  const { required } = bare({ quote, policy: { require: [] } }).policy;
  assert.deepEqual(required, QUOTE_POLICY.required);
});

test("what is expected must pass", () => {
  const { policy, reference, expectedReportData } = parse({
    report_data: "ab".repeat(64),
    reference: {
      compose_hash: "11".repeat(32),
      app_id: `0x${"22".repeat(20)}`,
      instance_id: "33".repeat(20),
      os_image_hashes: ["44".repeat(32)],
      key_provider: { name: "kms", id: "3059" },
    },
    policy: { require: [] },
  });
  assert.deepEqual(policy.required.slice(QUOTE_POLICY.required.length), [
    "report-data",
    "os-image",
    "compose-hash",
    "app-id",
    "instance-id",
    "key-provider",
  ]);
  assert.deepEqual(reference, {
    composeHash: new Uint8Array(32).fill(0x11),
    appId: new Uint8Array(20).fill(0x22),
    instanceId: new Uint8Array(20).fill(0x33),
    osImageHashes: [new Uint8Array(32).fill(0x44)],
    keyProvider: { name: "kms", id: "3059" },
  });
  assert.deepEqual(expectedReportData, new Uint8Array(64).fill(0xab));
});

test("a policy changes what it names and nothing else", () => {
  const { policy } = parse({
    policy: {
      allowed_tcb_statuses: ["UpToDate", "SWHardeningNeeded"],
      allowed_advisories: "any",
      min_tcb_evaluation_data_number: 17,
      collateral_grace_seconds: 3600,
      allow_vlek: true,
      allow_gpu_devtools: true,
      require: ["event-log-replay"],
    },
  });
  assert.deepEqual(policy, {
    allowedTcbStatuses: ["UpToDate", "SWHardeningNeeded"],
    allowedAdvisories: "any",
    minEvaluationDataNumber: 17,
    collateralGraceSeconds: 3600,
    allowVlek: true,
    allowGpuDevtools: true,
    required: [...QUOTE_POLICY.required, "event-log-replay"],
  });
  assert.deepEqual(parse({ policy: {} }).policy, DEFAULT_POLICY);
});

test("null stands for an absent member", () => {
  const nulls = Object.fromEntries(
    REQUEST_MEMBERS.request.slice(1).map((name) => [name, null]),
  );
  assert.deepEqual(parse(nulls), parse({}));
});

for (
  const [what, members, message] of [
    ["an unknown member", { atestation: "" }, /unknown field `atestation`/],
    ["an unknown expectation", { reference: { compose: "" } }, /unknown field `compose`/],
    ["an unknown policy", { policy: { requires: [] } }, /unknown field `requires`/],
    ["an unknown document", { vendor_documents: { ask: [] } }, /unknown field `ask`/],
    ["many documents", { vendor_documents: { crls: Array(17).fill("00") } }, /more than 16/],
    ["a document in base64", { vendor_documents: { crls: ["MII="] } }, /crls: not a hex string/],
    ["a root of trust", { root_ca: "" }, /unknown field `root_ca`/],
    ["a quote beside an attestation", { quote: "00" }, /quote stands beside an attestation/],
    ["a short hash", { reference: { compose_hash: "11" } }, /1 bytes, expected 32/],
    ["report data of 32 bytes", { report_data: "11".repeat(32) }, /32 bytes, expected 64/],
    ["a time without a zone", { time: "2026-03-01T00:00:00" }, /not RFC 3339/],
    ["a time as a number", { time: 1772323200 }, /time must be a string/],
    ["a status Intel has not", { policy: { allowed_tcb_statuses: ["OK"] } }, /may hold UpToDate/],
    ["a check there is not", { policy: { require: ["all"] } }, /may hold evidence-format/],
    ["one advisory as text", { policy: { allowed_advisories: "INTEL-SA-1" } }, /an array/],
    ["a negative grace", { policy: { collateral_grace_seconds: -1 } }, /whole number/],
    ["collateral with a member more", { collateral: { version: 3 } }, /unknown field `version`/],
    ["a provider without a name", { reference: { key_provider: { id: "" } } }, /name is missing/],
  ] as [string, Record<string, unknown>, RegExp][]
) {
  test(`${what} is refused`, () => {
    assert.throws(() => parse(members), { code: "input/malformed", message });
  });
}

for (
  const [what, body, code] of [
    ["no JSON", "{", "input/malformed"],
    ["a list", "[]", "input/malformed"],
    ["no evidence", "{}", "input/malformed"],
    ["a member twice", `{"quote":"00","quote":"01"}`, "input/malformed"],
    ["a configuration without a log", `{"quote":"00","vm_config":"{}"}`, "input/malformed"],
    ["a log that is no text", `{"quote":"00","event_log":[]}`, "input/malformed"],
    ["an attestation of no known version", `{"attestation":"ff"}`, "input/unsupported"],
    ["too much", `"${"0".repeat(MAX_REQUEST_BYTES)}"`, "input/too-large"],
  ] as const
) {
  test(`${what} is refused`, () => {
    assert.throws(() => parseVerificationRequest(body), { code });
  });
}

test("the OpenAPI document names the members that are read", () => {
  const { components } = verifierOpenApi("0") as {
    components: { schemas: Record<string, { properties: Record<string, never> }> };
  };
  const members = (name: string) => Object.keys(components.schemas[name]!.properties).sort();
  assert.deepEqual(members("VerificationRequest"), REQUEST_MEMBERS.request.toSorted());
  assert.deepEqual(members("Reference"), REQUEST_MEMBERS.reference.toSorted());
  assert.deepEqual(members("Policy"), REQUEST_MEMBERS.policy.toSorted());
});
