import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { fromHex, toHex } from "../bytes/bytes.ts";
import { AppError } from "../errors/app-error.ts";
import { cborMap, type CborValue, decodeCbor, encodeCbor } from "./cbor.ts";

// RFC 8949 appendix A
const EXAMPLES: [CborValue, string][] = [
  [0, "00"],
  [23, "17"],
  [24, "1818"],
  [100, "1864"],
  [1000, "1903e8"],
  [1000000, "1a000f4240"],
  [1000000000000, "1b000000e8d4a51000"],
  [-1, "20"],
  [-100, "3863"],
  [-1000, "3903e7"],
  [null, "f6"],
  [fromHex("01020304"), "4401020304"],
  ["", "60"],
  ["IETF", "6449455446"],
  ["\u00fc", "62c3bc"],
  [[], "80"],
  [[1, [2, 3], [4, 5]], "8301820203820405"],
  [cborMap({ a: 1, b: [2, 3] }), "a26161016162820203"],
  [new Map([[1, 2], [3, 4]]), "a201020304"],
];

test("the examples of RFC 8949 are written and read", () => {
  for (const [value, hex] of EXAMPLES) {
    assert.equal(toHex(encodeCbor(value)), hex);
    assert.deepEqual(decodeCbor(fromHex(hex), "example"), value);
  }
});

test("what the subset leaves out is refused", () => {
  const refused = [
    "f5", // true
    "f7", // undefined
    "f90000", // 0.0
    "c000", // a tag
    "5f42010243030405ff", // indefinite length
    "9fff",
    "1817", // not the shortest form
    "190001",
    "1bffffffffffffffff", // beyond 2^53
    "3bffffffffffffffff",
    "3800", // not the shortest form
    "a1f601", // a key that is neither text nor number
    "a201010102",
    "a2616101616102", // a key twice
    "61ff", // not UTF-8
    "0000", // a tail
    "81".repeat(20) + "00", // too deep
    "9a7fffffff00", // a count that lies
  ];
  for (const hex of refused) assert.throws(() => decodeCbor(fromHex(hex), "x"), AppError, hex);
});

test("arrays and maps of indefinite length are read where that is asked for", () => {
  // RFC 8949 appendix A
  const examples: [CborValue, string][] = [
    [[], "9fff"],
    [[1, [2, 3], [4, 5]], "9f018202039f0405ffff"],
    [cborMap({ a: 1, b: [2, 3] }), "bf61610161629f0203ffff"],
    [["a", cborMap({ b: "c" })], "826161bf61626163ff"],
  ];
  for (const [value, hex] of examples) {
    assert.deepEqual(decodeCbor(fromHex(hex), "example", { indefinite: true }), value);
    assert.throws(() => decodeCbor(fromHex(hex), "example"), AppError);
  }
  for (
    const hex of [
      "9f",
      "bf6161ff",
      "ff",
      "5f4101ff",
      "7f6161ff",
      "bf616101616102ff",
      "9f".repeat(20),
    ]
  ) {
    const bytes = fromHex(hex);
    assert.throws(() => decodeCbor(bytes, "example", { indefinite: true }), AppError, hex);
  }
});

test("any value round-trips, and no cut of it is accepted", () => {
  const { value } = fc.letrec<{ value: CborValue; leaf: CborValue }>((tie) => ({
    leaf: fc.oneof(
      fc.integer({ min: -(2 ** 52), max: 2 ** 52 }),
      fc.string(),
      fc.uint8Array(),
      fc.constant(null),
    ),
    value: fc.oneof(
      { maxDepth: 4 },
      tie("leaf"),
      fc.array(tie("value"), { maxLength: 4 }),
      fc.uniqueArray(fc.tuple(fc.string(), tie("value")), { maxLength: 4, selector: ([k]) => k })
        .map((members) => new Map(members)),
    ),
  }));
  fc.assert(fc.property(value, fc.nat(), (original, cut) => {
    const bytes = encodeCbor(original);
    assert.deepEqual(decodeCbor(bytes, "x"), original);
    assert.throws(() => decodeCbor(bytes.subarray(0, cut % bytes.length), "x"), AppError);
  }));
});
