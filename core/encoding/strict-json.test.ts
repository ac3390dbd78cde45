import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { utf8 } from "../bytes/bytes.ts";
import { parseStrictJson } from "./strict-json.ts";

test("parseStrictJson() reads what JSON.parse reads", () => {
  fc.assert(
    fc.property(fc.json({ noUnicodeString: false }), fc.constantFrom(0, 2), (text, indent) => {
      const spaced = JSON.stringify(JSON.parse(text), null, indent);
      assert.deepEqual(parseStrictJson(utf8(spaced), "a"), JSON.parse(spaced));
    }),
  );
});

for (
  const [what, text] of [
    ["a repeated member", '{"a":1,"b":2,"a":3}'],
    ["a member repeated through an escape", String.raw`{"a":1,"\u0061":3}`],
    ["a repeated member far down", '[{"x":{"y":[{"k":"\\"}{","k" :2}]}}]'],
    ["a byte order mark", "\ufeff{}"],
    ["two values", "{}{}"],
    ["a trailing comma", "[1,]"],
    ["nothing", ""],
  ] as const
) {
  test(`parseStrictJson() refuses ${what}`, () => {
    assert.throws(() => parseStrictJson(text, "a"), { code: "input/malformed" });
    assert.throws(() => parseStrictJson(utf8(text), "a"), { code: "input/malformed" });
  });
}

test("parseStrictJson() lets the same name stand in different objects", () => {
  const text = '{"a":{"a":[{"a":"a"},{"a":":"}]}}';
  assert.deepEqual(parseStrictJson(text, "a"), JSON.parse(text));
});

test("parseStrictJson() refuses invalid UTF-8", () => {
  assert.throws(() => parseStrictJson(Uint8Array.of(0x22, 0xff, 0x22), "a"), {
    code: "input/malformed",
  });
});

test("parseStrictJson() bounds size and depth", () => {
  assert.throws(() => parseStrictJson("[1,2,3]", "list", { maxSize: 6 }), {
    code: "input/too-large",
    message: "Cannot parse list: 7 bytes, at most 6 are allowed",
  });
  assert.throws(() => parseStrictJson("[[[]]]", "list", { maxDepth: 2 }), {
    message: "Cannot parse list: nested deeper than 2",
  });
  assert.throws(() => parseStrictJson("[".repeat(500_000) + "]".repeat(500_000), "list"), {
    code: "input/malformed",
  });
});

test("parseStrictJson() makes __proto__ an ordinary member", () => {
  const value = parseStrictJson('{"__proto__":{"admin":true}}', "a") as { admin?: boolean };
  assert.equal(value.admin, undefined);
});

test("parseStrictJson() keeps integers beyond 2^53 exact when asked", () => {
  const text = '{"max":18446744073709551615,"small":7,"float":12345678901234567890.5}';
  assert.deepEqual(parseStrictJson(text, "a", { exactIntegers: true }), {
    max: 18446744073709551615n,
    small: 7,
    float: 12345678901234567890.5,
  });
});

test("parseStrictJson() takes a million commas and brackets, and no more", () => {
  const most = 1024 * 1024;
  const limits = { maxSize: 4 * most };
  const list = (commas: number) => `[${"0,".repeat(commas)}0]`;
  assert.equal((parseStrictJson(list(most - 1), "a", limits) as unknown[]).length, most);
  for (const text of [list(most), `[${"[[]],".repeat(most / 3)}[[]]]`]) {
    assert.throws(() => parseStrictJson(text, "a", limits), { code: "input/too-large" });
  }
  const text = `["${",[".repeat(most)}"]`;
  assert.equal((parseStrictJson(text, "a", limits) as string[])[0]!.length, 2 * most);
});
