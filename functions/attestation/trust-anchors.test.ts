import assert from "node:assert/strict";
import { test } from "node:test";
import { VENDOR_TRUST_ANCHORS } from "#core/attestation/trust-anchor.ts";
import { ARK_MILAN } from "#core/sev-snp/amd-roots.ts";
import { createSimulatedPlatform } from "#core/tdx/simulated-platform.ts";
import { ROOT_NAMES, serviceTrustAnchors } from "./trust-anchors.ts";

const own = createSimulatedPlatform(new Uint8Array(32).fill(1)).rootCertificateDer;
const vouching = (anchors: ReturnType<typeof serviceTrustAnchors>) =>
  anchors.map(({ name, vouchesFor, simulated }) => [name.split(" ").at(0), vouchesFor, simulated]);

test("without configuration each vendor vouches for its own", () => {
  assert.deepEqual(serviceTrustAnchors({}, true), VENDOR_TRUST_ANCHORS);
});

test("a root of one's own takes the place of one vendor's, and of no other", () => {
  const anchors = serviceTrustAnchors({ tdx: own }, true);
  assert.deepEqual(vouching(anchors)[0], ["external", ["intel"], true]);
  assert.match(anchors[0]!.name, /^external tdx root [0-9a-f]{16}$/);
  const names = anchors.slice(1).map(({ name }) => name);
  assert.deepEqual(names, VENDOR_TRUST_ANCHORS.slice(1).map(({ name }) => name));
});

test("AWS's root goes on vouching for what was not replaced", () => {
  const anchors = serviceTrustAnchors({ aws_nitro_tpm: own }, true);
  const aws = anchors.find(({ name }) => name === "aws-nitro-root-g1")!;
  assert.deepEqual(aws.vouchesFor, ["aws-nitro-enclave"]);
  const both = serviceTrustAnchors({ aws_nitro_tpm: own, aws_nitro_enclave: own }, true);
  assert.ok(!both.some(({ name }) => name === "aws-nitro-root-g1"));
});

test("with every root replaced no vendor is left, and a real root may be named", () => {
  const all = Object.fromEntries(ROOT_NAMES.map((name) => [name, ARK_MILAN]));
  const anchors = serviceTrustAnchors(all, false);
  assert.equal(anchors.length, ROOT_NAMES.length);
  assert.ok(anchors.every(({ simulated }) => !simulated));
  assert.throws(() => serviceTrustAnchors({ gcp_tpm: new Uint8Array(3) }, false), {
    code: "config/invalid",
  });
});
