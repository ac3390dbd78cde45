import assert from "node:assert/strict";
import { test } from "node:test";
import { fromHex } from "../bytes/bytes.ts";
import { INTEL_SGX_ROOT_CA } from "../tdx/intel-root.ts";
import { commonNameOf } from "./common-name.ts";
import { parseX509Certificate } from "./x509-certificate.ts";

test("commonNameOf() reads Intel's root", () => {
  const { subject } = parseX509Certificate(INTEL_SGX_ROOT_CA);
  assert.equal(commonNameOf(subject), "Intel SGX Root CA");
});

test("commonNameOf() answers undefined for a name without one", () => {
  assert.equal(commonNameOf(fromHex("3000")), undefined);
  // SET { SEQUENCE { 2.5.4.10 (O), "x" } }
  assert.equal(commonNameOf(fromHex("300c310a3008060355040a0c0178")), undefined);
});

test("commonNameOf() refuses what is no name", () => {
  for (const hex of ["", "30", "3003310130", "0c0178", "300b3109300706035504030c02ff"]) {
    assert.throws(() => commonNameOf(fromHex(hex)), { code: "input/malformed" });
  }
});
