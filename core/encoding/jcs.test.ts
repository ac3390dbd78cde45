import assert from "node:assert/strict";
import { test } from "node:test";
import { fromUtf8, toHex, utf8 } from "../bytes/bytes.ts";
import { canonicalJson } from "./jcs.ts";

test("canonicalJson() writes the example of RFC 8785 section 3.2.2 and 3.2.4", () => {
  const value = JSON.parse(String.raw`{
    "numbers": [333333333.33333329, 1E30, 4.50, 2e-3, 0.000000000000000000000000001],
    "string": "\u20ac$\u000F\u000aA'\u0042\u0022\u005c\\\"\/",
    "literals": [null, true, false]
  }`);
  // The bytes of section 3.2.4.
  const expected = `
    7b 22 6c 69 74 65 72 61 6c 73 22 3a 5b 6e 75 6c 6c 2c 74 72 75 65 2c 66 61 6c 73 65 5d 2c 22 6e 75
    6d 62 65 72 73 22 3a 5b 33 33 33 33 33 33 33 33 33 2e 33 33 33 33 33 33 33 2c 31 65 2b 33 30 2c 34
    2e 35 2c 30 2e 30 30 32 2c 31 65 2d 32 37 5d 2c 22 73 74 72 69 6e 67 22 3a 22 e2 82 ac 24 5c 75 30
    30 30 66 5c 6e 41 27 42 5c 22 5c 5c 5c 5c 5c 22 2f 22 7d`;
  assert.equal(toHex(utf8(canonicalJson(value))), expected.replaceAll(/\s/g, ""));
});

test("canonicalJson() sorts members by UTF-16 code units, RFC 8785 section 3.2.3", () => {
  const value = JSON.parse(String.raw`{
    "\u20ac": "Euro Sign", "\r": "Carriage Return", "\ufb33": "Hebrew Letter Dalet With Dagesh",
    "1": "One", "\ud83d\ude00": "Emoji: Grinning Face", "\u0080": "Control",
    "\u00f6": "Latin Small Letter O With Diaeresis"
  }`);
  assert.deepEqual(Object.values(JSON.parse(canonicalJson(value)) as Record<string, string>), [
    "One", // engines list integer keys first; the text itself is compared below
    "Carriage Return",
    "Control",
    "Latin Small Letter O With Diaeresis",
    "Euro Sign",
    "Emoji: Grinning Face",
    "Hebrew Letter Dalet With Dagesh",
  ]);
  assert.match(canonicalJson(value), /^\{"\\r":"Carriage Return","1":"One","\u0080"/);
});

for (
  const [bits, text] of [
    // RFC 8785 appendix B
    ["0000000000000000", "0"],
    ["8000000000000000", "0"],
    ["0000000000000001", "5e-324"],
    ["8000000000000001", "-5e-324"],
    ["7fefffffffffffff", "1.7976931348623157e+308"],
    ["4340000000000000", "9007199254740992"],
    ["c340000000000000", "-9007199254740992"],
    ["4430000000000000", "295147905179352830000"],
    ["44b52d02c7e14af5", "9.999999999999997e+22"],
    ["44b52d02c7e14af6", "1e+23"],
    ["44b52d02c7e14af7", "1.0000000000000001e+23"],
    ["444b1ae4d6e2ef4e", "999999999999999700000"],
    ["444b1ae4d6e2ef50", "1e+21"],
    ["3eb0c6f7a0b5ed8c", "9.999999999999997e-7"],
    ["3eb0c6f7a0b5ed8d", "0.000001"],
    ["41b3de4355555553", "333333333.3333332"],
    ["becbf647612f3696", "-0.0000033333333333333333"],
    ["43143ff3c1cb0959", "1424953923781206.2"],
  ] as const
) {
  test(`canonicalJson() writes the double ${bits} as ${text}`, () => {
    const view = new DataView(new ArrayBuffer(8));
    view.setBigUint64(0, BigInt(`0x${bits}`));
    assert.equal(canonicalJson(view.getFloat64(0)), text);
  });
}

test("canonicalJson() refuses what I-JSON has no form for", () => {
  for (const value of [NaN, Infinity, "\ud800", { "\udead": 1 }, 2n ** 60n]) {
    assert.throws(() => canonicalJson(value), { code: "input/malformed" });
  }
});

test("canonicalJson() leaves out undefined members", () => {
  assert.equal(canonicalJson({ b: undefined, a: [1, null] }), '{"a":[1,null]}');
  assert.equal(fromUtf8(utf8(canonicalJson("é"))), '"é"');
});
