import assert from "node:assert/strict";
import { test } from "node:test";
import { INTEL_SGX_ROOT_CA } from "../tdx/intel-root.ts";
import { encodePem } from "../encoding/pem.ts";
import { parsePemChain } from "./pem-chain.ts";

const root = encodePem("CERTIFICATE", INTEL_SGX_ROOT_CA);

test("certificates one after the other are a chain", () => {
  assert.deepEqual(parsePemChain(""), []);
  for (const text of [root + root, `${root.trim()}\r\n${root}\n\n`, root.trim() + root]) {
    const chain = parsePemChain(text);
    assert.equal(chain.length, 2);
    assert.deepEqual(chain[1]!.encoded, INTEL_SGX_ROOT_CA);
  }
});

for (
  const [what, text] of [
    ["text before", `x${root}`],
    ["text between", `${root}x${root}`],
    ["text behind", `${root}x`],
    ["a byte behind", `${root}\0`],
    ["another label", root.replaceAll("CERTIFICATE", "X509 CRL")],
    ["another alphabet", root.replace("MII", "M_I")],
    ["a vertical tab", root.replace("\n", "\v")],
    ["no end", root.slice(0, -10)],
    ["stray bits", root.replace("RXaqI=", "RXaqJ=")],
    ["a broken certificate", root.replace("MIIC", "MIID")],
  ] as const
) {
  test(`parsePemChain() refuses ${what}`, () => {
    assert.notEqual(text, root);
    assert.throws(() => parsePemChain(text), { code: "input/malformed" });
  });
}
