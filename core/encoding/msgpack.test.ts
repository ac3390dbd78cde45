import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { parserProperty } from "../../tests/parser-property.ts";
import { fromHex, toHex } from "../bytes/bytes.ts";
import { decodeMsgpack, encodeMsgpack, type MsgpackValue } from "./msgpack.ts";

const decoded = (hex: string) => decodeMsgpack(fromHex(hex), "test", 1000);

for (
  const [value, hex] of [
    // github.com/msgpack/msgpack spec.md; integers in the shortest form, as rmp-serde writes them
    [0, "00"],
    [127, "7f"],
    [-32, "e0"],
    [128, "cc80"],
    [256, "cd0100"],
    [0xffffffff, "ceffffffff"],
    [2 ** 32, "cf0000000100000000"],
    [-(2 ** 31) - 1, "d3ffffffff7fffffff"],
    [Number.MAX_SAFE_INTEGER, "cf001fffffffffffff"],
    [5n, "05"],
    [2n ** 64n - 1n, "cfffffffffffffffff"],
    [null, "c0"],
    ["a", "a161"],
    [Uint8Array.of(1), "c40101"],
    [[true, false], "92c3c2"],
    [{ version: 1, gone: undefined }, "81a776657273696f6e01"],
  ] as const
) {
  test(`encodeMsgpack() writes ${hex}`, () => assert.equal(toHex(encodeMsgpack(value)), hex));
}

test("documents survive the round trip", () => {
  const { value } = fc.letrec<{ value: MsgpackValue }>((tie) => ({
    value: fc.oneof(
      { maxDepth: 4 },
      fc.constantFrom(null, true, false),
      fc.integer(),
      fc.bigInt({ min: 2n ** 33n, max: 2n ** 64n - 1n }),
      fc.string(),
      fc.uint8Array({ maxLength: 8 }),
      fc.array(tie("value"), { maxLength: 4 }),
      fc.dictionary(fc.string().filter((key) => key !== "__proto__"), tie("value"), {
        maxKeys: 4,
        noNullPrototype: true,
      }),
    ),
  }));
  fc.assert(fc.property(value, (document) => {
    assert.deepEqual(decodeMsgpack(encodeMsgpack(document), "test", 1e6), document);
  }));
});

for (
  const [what, hex] of [
    ["trailing bytes", "0000"],
    ["a repeated key", "82a16101a16102"],
    ["a repeated key in a nested map", "9182a16101a16102"],
    ["a key that is not text", "810102"],
    ["__proto__ as a key", "81a95f5f70726f746f5f5f80"],
    ["a timestamp extension", "d6ff00000000"],
    ["an unknown extension", "d40100"],
    ["a truncated document", "92c0"],
    ["a false array length", "ddffffffff"],
    ["nothing", ""],
    ["deep nesting", "91".repeat(100) + "c0"],
  ] as const
) {
  test(`decodeMsgpack() refuses ${what}`, () => {
    assert.throws(() => decoded(hex), { code: "input/malformed" });
  });
}

test("decodeMsgpack() takes no memory for arrays that are only announced", () => {
  // Each announces 0xdcdc items and holds the next: decoders that make room at once need gigabytes.
  for (const byte of [0xdc, 0xdd, 0xde, 0xdf]) {
    const nested = new Uint8Array(64 * 1024).fill(byte);
    assert.throws(() => decodeMsgpack(nested, "test", nested.length), { code: "input/malformed" });
  }
});

test("decodeMsgpack() bounds the size", () => {
  assert.throws(() => decodeMsgpack(new Uint8Array(5), "test", 4), { code: "input/too-large" });
});

test("headers that promise more than there is take no room", () => {
  const nested = (byte: number) => new Uint8Array(64 * 1024).fill(byte);
  for (const byte of [0xdc, 0xdd, 0xde, 0xdf, 0x9f, 0x8f, 0x91, 0x81]) {
    const decodeNested = () => decodeMsgpack(nested(byte), "test", 1 << 20);
    assert.throws(decodeNested, { code: "input/malformed" }, `${byte}`);
  }
});

parserProperty(
  "decodeMsgpack()",
  (bytes) => decodeMsgpack(bytes, "test", 1 << 20),
  () => encodeMsgpack({ a: [1, -1, 300, 70_000, "x".repeat(40)], b: { c: null, d: true } }),
);
