import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { fromHex, toHex, utf8 } from "../bytes/bytes.ts";
import { DER, der, derBitString, derInteger, derOid, DerReader } from "./der.ts";

const reader = (hex: string) => new DerReader(fromHex(hex), "test");

for (
  const [value, hex] of [
    // X.690 8.3 as shown in "A Layman's Guide to a Subset of ASN.1, BER, and DER", section 5.7
    [0n, "020100"],
    [127n, "02017f"],
    [128n, "02020080"],
    [256n, "02020100"],
    [-128n, "020180"],
    [-129n, "0202ff7f"],
  ] as const
) {
  test(`INTEGER ${value} is ${hex}`, () => {
    assert.equal(toHex(derInteger(value)), hex);
    assert.equal(reader(hex).integer("n"), value);
  });
}

for (
  const [oid, hex] of [
    ["1.2.840.113549", "06062a864886f70d"], // Layman's Guide, section 5.9
    ["2.999.3", "0603883703"], // X.690 8.19.5
    ["1.2.840.10045.2.1", "06072a8648ce3d0201"], // RFC 5480
    ["1.3.6.1.4.1.62397.1.8", "060a2b0601040183e73d0108"], // 62397 = 3 << 14 | 103 << 7 | 61
  ] as const
) {
  test(`OID ${oid}`, () => {
    assert.equal(toHex(derOid(oid)), hex);
    assert.equal(reader(hex).oid("oid"), oid);
  });
}

test("elements survive the round trip at every length form", () => {
  fc.assert(fc.property(fc.constantFrom(0, 1, 127, 128, 255, 256, 65535, 65536, 70000), (n) => {
    const content = new Uint8Array(n).fill(7);
    const r = new DerReader(der(DER.sequence, der(DER.octetString, content)), "test").enter("seq");
    assert.deepEqual(r.octetString("o"), content);
    r.end();
  }));
});

test("integers survive the round trip", () => {
  fc.assert(fc.property(fc.bigInt({ min: -(2n ** 300n), max: 2n ** 300n }), (n) => {
    assert.equal(new DerReader(derInteger(n), "test").integer("n"), n);
  }));
});

test("any truncation is refused as malformed", () => {
  const whole = der(DER.sequence, derInteger(5n), derOid("1.2.3"), der(DER.utf8String, utf8("é")));
  for (let n = 0; n < whole.length; n++) {
    const r = new DerReader(whole.slice(0, n), "test");
    assert.throws(() => r.enter("seq"), { code: "input/malformed" });
  }
});

test("arbitrary bytes are read or refused as malformed, nothing else", () => {
  fc.assert(fc.property(fc.uint8Array({ maxLength: 40 }), (bytes) => {
    const walk = (r: DerReader) => {
      while (!r.done) {
        const element = r.any("element");
        if (element.tag & 0x20) walk(new DerReader(element.content, "inner"));
      }
    };
    try {
      walk(new DerReader(bytes, "test"));
    } catch (error) {
      assert.equal((error as { code?: string }).code, "input/malformed");
    }
  }));
});

for (
  const [what, hex, read] of [
    ["an indefinite length", "3080020100" + "0000", (r: DerReader) => r.enter("x")],
    ["a long form for a short length", "04810100", (r: DerReader) => r.octetString("x")],
    ["a length with a leading zero", "0482008000", (r: DerReader) => r.octetString("x")],
    ["a length of five bytes", "04850100000000", (r: DerReader) => r.octetString("x")],
    ["a tag of several bytes", "1f810100", (r: DerReader) => r.any("x")],
    ["a padded integer", "02020001", (r: DerReader) => r.integer("x")],
    ["an empty integer", "0200", (r: DerReader) => r.integer("x")],
    ["a negative small integer", "020180", (r: DerReader) => r.small("x")],
    ["a boolean that is not 00 or ff", "010101", (r: DerReader) => r.boolean("x")],
    ["an OID arc with padding", "06022a80", (r: DerReader) => r.oid("x")],
    ["an OID that ends inside an arc", "06022a86", (r: DerReader) => r.oid("x")],
    ["unused bits", "030206c0", (r: DerReader) => r.bitString("x")],
    ["another tag", "040100", (r: DerReader) => r.integer("x")],
    ["trailing bytes", "0500ff", (r: DerReader) => (r.content("x", DER.null), r.end())],
  ] as const
) {
  test(`DerReader refuses ${what}`, () => {
    assert.throws(() => read(reader(hex)), { code: "input/malformed" });
  });
}

test("optional and context-tagged elements", () => {
  const r = new DerReader(
    der(DER.sequence, der(DER.context(0), derInteger(2n)), derBitString(Uint8Array.of(1, 2))),
    "test",
  ).enter("seq");
  assert.equal(r.optional("none", DER.context(1)), undefined);
  assert.equal(r.enter("version", DER.context(0)).small("v"), 2);
  assert.deepEqual(r.bitString("bits"), Uint8Array.of(1, 2));
  r.end();
});
