import assert from "node:assert/strict";
import { test } from "node:test";
import { attestationVariantOf, type VariantPolicy } from "./attestation-variant.ts";

const of = (policy: VariantPolicy, mib: number, hasDocument = true) =>
  attestationVariantOf(policy, mib * 2 ** 20, hasDocument);

// spec/vmm.md sections 4.5 and 11
test("auto is lite where a measurement document covers the memory for sure", () => {
  assert.deepEqual([1024, 2048, 2049, 2816, 3071, 3072, 65536].map((mib) => of("auto", mib)), [
    "legacy",
    "lite",
    "legacy",
    "legacy",
    "legacy",
    "lite",
    "lite",
  ]);
  assert.equal(of("auto", 2048, false), "legacy");
  assert.equal(of("auto", 3072, false), "legacy");
});

test("what was asked for by name wins, or is refused", () => {
  assert.equal(of("legacy", 3072), "legacy");
  assert.equal(of("lite", 2816), "lite");
  assert.throws(() => of("lite", 1024), /exactly 2 GiB/);
  assert.throws(() => of("lite", 3072, false), /no measurement document/);
});
