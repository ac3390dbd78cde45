import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { compact as referenceCompact, Option, str, Vector } from "scale-ts";
import { ByteReader } from "../bytes/byte-reader.ts";
import { ByteWriter } from "../bytes/byte-writer.ts";
import { fromHex, toHex } from "../bytes/bytes.ts";
import * as scale from "./scale.ts";

function written(write: (w: ByteWriter) => void): Uint8Array {
  const w = new ByteWriter();
  write(w);
  return w.finish();
}

function compact(hex: string): number {
  const r = new ByteReader(fromHex(hex), "test");
  const value = scale.readCompact(r, "n");
  r.end();
  return value;
}

for (
  const [value, hex] of [
    // docs.polkadot.com, SCALE data encoding, "Compact/general integers"
    [0, "00"],
    [1, "04"],
    [42, "a8"],
    [69, "1501"],
    [65535, "feff0300"],
    [100000000000000, "0b00407a10f35a"],
  ] as const
) {
  test(`compact ${value} is ${hex}`, () => {
    assert.equal(toHex(written((w) => scale.writeCompact(w, value))), hex);
    assert.equal(compact(hex), value);
  });
}

test("compact integers agree with scale-ts", () => {
  fc.assert(fc.property(fc.maxSafeNat(), fc.nat(52), (n, shift) => {
    const value = Math.floor(n / 2 ** shift);
    const bytes = written((w) => scale.writeCompact(w, value));
    assert.equal(toHex(bytes), toHex(referenceCompact.enc(value)));
    assert.equal(compact(toHex(bytes)), value);
  }));
});

test("readCompact() refuses longer forms than needed", () => {
  for (const hex of ["0100", "02000000", "fd000000", "0300000000", "03ffffff3f", "070000000000"]) {
    assert.throws(() => compact(hex), { code: "input/malformed" }, hex);
  }
});

test("readCompact() refuses what a number cannot hold", () => {
  assert.throws(() => compact("13ffffffffffffffff"), { message: /exceeds 2\^53/ });
  assert.throws(() => compact("17ffffffffffffffffff"), { message: /compact integer of 9 bytes/ });
});

const strings = fc.array(fc.string({ unit: "grapheme" }), { maxLength: 8 });

test("a list of strings agrees with scale-ts and survives the round trip", () => {
  fc.assert(fc.property(strings, (list) => {
    const bytes = written((w) => scale.writeScaleVec(w, list, scale.writeScaleString));
    assert.deepEqual(bytes, Vector(str).enc(list));
    const r = new ByteReader(bytes, "test");
    assert.deepEqual(
      scale.readScaleVec(r, "list", 8, (r) => scale.readScaleString(r, "s", 1e4)),
      list,
    );
    r.end();
  }));
});

test("any truncation of a list is refused as malformed", () => {
  fc.assert(fc.property(strings, fc.double({ min: 0, max: 1, maxExcluded: true }), (list, cut) => {
    const bytes = written((w) => scale.writeScaleVec(w, list, scale.writeScaleString));
    const r = new ByteReader(bytes.slice(0, Math.floor(bytes.length * cut)), "test");
    assert.throws(
      () => scale.readScaleVec(r, "list", 8, (r) => scale.readScaleString(r, "s", 1e4)),
      { code: "input/malformed" },
    );
  }));
});

test("options and booleans agree with scale-ts", () => {
  for (const value of ["x", undefined]) {
    const bytes = written((w) => scale.writeScaleOption(w, value, scale.writeScaleString));
    assert.deepEqual(bytes, Option(str).enc(value));
    const r = new ByteReader(bytes, "test");
    assert.equal(scale.readScaleOption(r, "o", (r) => scale.readScaleString(r, "s", 9)), value);
  }
  assert.throws(() => scale.readScaleBool(new ByteReader(Uint8Array.of(2), "test"), "b"), {
    message: "Cannot parse test: b is 2, expected 0 or 1",
  });
});

test("a length beyond its maximum is refused before anything is read", () => {
  const r = () => new ByteReader(fromHex("feffffff"), "test");
  assert.throws(() => scale.readScaleBytes(r(), "b", 16), { message: /at most 16 are allowed/ });
  assert.throws(() => scale.readScaleString(r(), "s", 16), { message: /at most 16 are allowed/ });
  assert.throws(() => scale.readScaleVec(r(), "v", 16, () => 0), { message: /at most 16 are/ });
});
