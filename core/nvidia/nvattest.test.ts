import assert from "node:assert/strict";
import { test } from "node:test";
import { parserProperty } from "../../tests/parser-property.ts";
import { toHex, utf8 } from "../bytes/bytes.ts";
import { type ReasonCode, reasonOf } from "../errors/refusal.ts";
import { encodeGpuAttestation, parseGpuAttestation } from "./gpu-attestation.ts";
import { parseNvattestOutput, requireGenuineGpus } from "./nvattest.ts";

const NONCE = new Uint8Array(32).fill(0x5a);
const STRICT = { allowDebug: false, allowInsecureBoot: false };

/** A claim as NVIDIA's local verifier prints it of an H100, shortened. */
const claim = (changes: Record<string, unknown> = {}) => ({
  "measres": "success",
  "x-nvidia-device-type": "gpu",
  "eat_nonce": toHex(NONCE),
  "hwmodel": "GH100 A01 GSP BROM",
  "secboot": true,
  "dbgstat": "disabled",
  "x-nvidia-gpu-attestation-report-nonce-match": true,
  ...changes,
});
const output = (claims: unknown, code: unknown = 0) =>
  JSON.stringify({ result_code: code, result_message: "Ok", claims, detached_eat: [] });
const codeOf = (run: () => void): string | undefined => {
  try {
    run();
    return undefined;
  } catch (error) {
    return reasonOf(error)?.code ?? (error as { code: string }).code;
  }
};
const judge = (text: string, devices = 1, policy = STRICT) =>
  codeOf(() => requireGenuineGpus(parseNvattestOutput(text), devices, NONCE, policy));

test("genuine GPUs pass, each with a claim of its own", () => {
  assert.equal(judge(output([claim()])), undefined);
  assert.equal(judge(output([claim(), claim()]), 2), undefined);
});

for (
  const [what, code, text, devices] of [
    ["a failed verification", "gpu-attestation-mismatch", output([claim()], 4), 1],
    ["no claim", "gpu-attestation-mismatch", output([]), 1],
    ["fewer claims than GPUs", "gpu-attestation-mismatch", output([claim()]), 2],
    ["more claims than GPUs", "gpu-attestation-mismatch", output([claim(), claim()]), 1],
    [
      "a switch",
      "gpu-attestation-mismatch",
      output([
        claim({ "x-nvidia-device-type": "nvswitch" }),
      ]),
      1,
    ],
    [
      "another nonce",
      "gpu-attestation-mismatch",
      output([
        claim({ eat_nonce: "00".repeat(32) }),
      ]),
      1,
    ],
    [
      "a report of another nonce",
      "gpu-attestation-mismatch",
      output([
        claim({ "x-nvidia-gpu-attestation-report-nonce-match": false }),
      ]),
      1,
    ],
    ["other measurements", "gpu-attestation-mismatch", output([claim({ measres: "fail" })]), 1],
    ["insecure boot", "gpu-mode-not-allowed", output([claim({ secboot: false })]), 1],
    ["debug", "gpu-mode-not-allowed", output([claim({ dbgstat: "enabled" })]), 1],
    [
      "a bad GPU behind a good one",
      "gpu-mode-not-allowed",
      output([
        claim(),
        claim({ dbgstat: "enabled" }),
      ]),
      2,
    ],
    ["an unknown debug status", "input/malformed", output([claim({ dbgstat: "maybe" })]), 1],
    ["no result code", "input/malformed", output([claim()], null), 1],
    ["claims that are none", "input/malformed", output({}), 1],
    ["a claim without its nonce", "input/malformed", output([claim({ eat_nonce: undefined })]), 1],
    ["secboot as text", "input/malformed", output([claim({ secboot: "true" })]), 1],
  ] as const satisfies readonly (readonly [
    string,
    ReasonCode | "input/malformed",
    string,
    number,
  ])[]
) {
  test(`GPUs are refused for ${what}`, () => {
    assert.equal(judge(text, devices), code);
  });
}

test("an app may allow debug and insecure boot, one by one", () => {
  const debug = output([claim({ dbgstat: "enabled" })]);
  const insecure = output([claim({ secboot: false })]);
  const allowDebug = { ...STRICT, allowDebug: true };
  const allowInsecureBoot = { ...STRICT, allowInsecureBoot: true };
  assert.equal(judge(debug, 1, allowDebug), undefined);
  assert.equal(judge(insecure, 1, allowInsecureBoot), undefined);
  assert.equal(judge(debug, 1, allowInsecureBoot), "gpu-mode-not-allowed");
  assert.equal(judge(insecure, 1, allowDebug), "gpu-mode-not-allowed");
});

const MEASURED = {
  devices: 8,
  ccMode: "on",
  devtools: false,
  evidenceSha256: new Uint8Array(32).fill(7),
};

test("the event a guest extends is that of the specification", () => {
  // spec attestation.md 2.2, event 6
  const text = '{"version":2,"provider":"nvidia","devices":8,"cc_mode":"on","devtools":false,' +
    `"evidence_sha256":"${"07".repeat(32)}"}`;
  assert.equal(new TextDecoder().decode(encodeGpuAttestation(MEASURED)), text);
  assert.deepEqual(parseGpuAttestation(utf8(text)), MEASURED);
});

for (
  const [what, from, to] of [
    ["another version", '"version":2', '"version":1'],
    ["another vendor", "nvidia", "amd"],
    ["a digest too short", "0707", "07"],
    ["an unknown member", '"devices":8', '"devices":8,"more":1'],
    ["too many devices", '"devices":8', '"devices":65'],
  ] as const
) {
  test(`a GPU event with ${what} is malformed`, () => {
    const text = new TextDecoder().decode(encodeGpuAttestation(MEASURED)).replace(from, to);
    assert.throws(() => parseGpuAttestation(utf8(text)), { code: "input/malformed" });
  });
}

parserProperty("parseNvattestOutput()", parseNvattestOutput, () => utf8(output([claim()])));
parserProperty("parseGpuAttestation()", parseGpuAttestation, () => encodeGpuAttestation(MEASURED));
