import assert from "node:assert/strict";
import { test } from "node:test";
import { parserProperty } from "../../tests/parser-property.ts";
import { vectorBytes, vectorTest } from "../../tests/vectors.ts";
import { fromHex, toHex } from "../bytes/bytes.ts";
import { parseTpmAttest, parseTpmSignature } from "./attest.ts";

vectorTest("a quote of a vTPM is parsed by field", () => {
  const attest = parseTpmAttest(vectorBytes("dstack/tpm_quote_sample.bin"));
  assert.equal(toHex(attest.extraData), "12345678"); // spec attestation.md 9.3
  assert.equal(attest.qualifiedSigner.length, 34);
  assert.equal(attest.clockMs, 0x054dd1efn);
  assert.deepEqual([attest.resetCount, attest.restartCount, attest.isClockSafe], [16, 0, true]);
  assert.equal(attest.firmwareVersion, 0x2016051100162800n);
  assert.deepEqual(attest.selections, [{ hash: 0x000b, indexes: [0, 1, 2] }]);
  assert.match(toHex(attest.pcrDigest), /^d8de2be2.*887648$/);
});

/** The capture with other bytes: magic, type, then everything after. */
const HEAD = "ff5443478018" + "0000" + "0000";
const CLOCK = "00".repeat(8) + "00".repeat(8) + "01" + "00".repeat(8);
const quoteOf = (selections: string, digest = "0000") =>
  fromHex(HEAD + CLOCK + selections + digest);

test("selections of several banks and registers are read", () => {
  const { selections } = parseTpmAttest(quoteOf("00000002" + "000b03050040" + "000c0480000001"));
  assert.deepEqual(selections, [
    { hash: 0x000b, indexes: [0, 2, 22] },
    { hash: 0x000c, indexes: [7, 24] },
  ]);
});

for (
  const [what, bytes, code] of [
    ["another magic", fromHex("ff544348" + "8018"), "input/malformed"],
    ["a certification", fromHex("ff544347" + "8017"), "input/unsupported"],
    ["a tail", fromHex(toHex(quoteOf("00000000")) + "00"), "input/malformed"],
    ["17 selections", quoteOf("00000011"), "input/malformed"],
    ["a bitmap of 5 bytes", quoteOf("00000001" + "000b05" + "00".repeat(5)), "input/malformed"],
    ["a digest that lies", quoteOf("00000000", "0020"), "input/malformed"],
    [
      "a safe that is neither yes nor no",
      fromHex(HEAD + CLOCK.replace("01", "02") + "00000000" + "0000"),
      "input/malformed",
    ],
  ] as const
) {
  test(`a TPM quote with ${what} is refused`, () => {
    assert.throws(() => parseTpmAttest(bytes), { code });
  });
}

test("signatures are read with and without leading zeros", () => {
  const r = "11".repeat(31);
  const s = "22".repeat(32);
  const signature = parseTpmSignature(fromHex(`0018000b001f${r}0020${s}`));
  assert.equal(signature.scheme, "ecdsa");
  assert.equal(toHex(signature.bytes), `00${r}${s}`);
  assert.deepEqual(parseTpmSignature(fromHex("0014000b0003010203")), {
    scheme: "rsassa",
    bytes: Uint8Array.of(1, 2, 3),
  });
});

for (
  const [what, hex, code] of [
    ["SHA-1", "001400040000", "input/unsupported"],
    ["RSA-PSS", "0016000b0000", "input/unsupported"],
    ["an r beyond P-256", `0018000b0021${"01".repeat(33)}0000`, "input/malformed"],
    ["a tail", "0014000b000000", "input/malformed"],
  ] as const
) {
  test(`a TPM signature with ${what} is refused`, () => {
    assert.throws(() => parseTpmSignature(fromHex(hex)), { code });
  });
}

parserProperty("parseTpmAttest()", parseTpmAttest, () => quoteOf("00000001" + "000b03050040"));
parserProperty("parseTpmSignature()", parseTpmSignature, () => fromHex("0014000b0003010203"));
