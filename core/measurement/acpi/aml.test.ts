import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { toHex } from "../../bytes/bytes.ts";
import {
  type Aml,
  amlBytes,
  buffer,
  eisaId,
  field,
  integer,
  list,
  name,
  scope,
  string,
  uuid,
} from "./aml.ts";

/** Reads a PkgLength as ACPI 6.5 section 20.2.4 defines it. */
function packageLengthAt(bytes: Uint8Array, at: number): { length: number; size: number } {
  const lead = bytes[at]!;
  const more = lead >> 6;
  if (more === 0) return { length: lead & 0x3f, size: 1 };
  assert.equal(lead & 0x30, 0);
  let length = lead & 0x0f;
  for (let i = 1; i <= more; i++) length += bytes[at + i]! * 2 ** (8 * i - 4);
  return { length, size: more + 1 };
}

const INTEGER_SIZE = new Map([[0x0a, 1], [0x0b, 2], [0x0c, 4], [0x0e, 8]]);

function integerAt(bytes: Uint8Array, at: number): { value: bigint; size: number } {
  if (bytes[at]! <= 1) return { value: BigInt(bytes[at]!), size: 1 };
  const size = INTEGER_SIZE.get(bytes[at]!)!;
  const digits = toHex(bytes.slice(at + 1, at + 1 + size).reverse());
  return { value: BigInt(`0x${digits}`), size: size + 1 };
}

const integers = fc.oneof(fc.maxSafeNat(), fc.nat(2 ** 17), fc.nat(300));

test("integers read back, in the fewest bytes that hold them", () => {
  fc.assert(fc.property(integers, (value) => {
    const bytes = amlBytes(integer(value));
    assert.deepEqual(integerAt(bytes, 0), { value: BigInt(value), size: bytes.length });
    const needed = [1, 2, 4, 8].find((size) => value < 2 ** (8 * size))! + 1;
    assert.equal(bytes.length, value <= 1 ? 1 : needed);
  }));
  for (const bad of [-1, 1.5, 2 ** 53]) assert.throws(() => integer(bad), RangeError);
});

test("a term says how long it is, at every size of the length itself", () => {
  const sizes = fc.oneof(
    fc.integer({ min: 0, max: 5000 }),
    fc.constantFrom(57, 58, 59, 60, 61, 62, 4088, 4089, 4090, 4091, 4092),
    fc.constantFrom(2 ** 20 - 12, 2 ** 20 - 8, 2 ** 20 - 7, 2 ** 20),
  );
  fc.assert(fc.property(sizes, (size) => {
    const bytes = amlBytes(buffer(new Uint8Array(size).fill(0xab)));
    const { length, size: own } = packageLengthAt(bytes, 1);
    assert.equal(length, bytes.length - 1);
    assert.ok(own === 1 || length > [0, 0x3f, 0xfff, 0xf_ffff][own - 1]!, "in fewer bytes");
    const count = integerAt(bytes, 1 + own);
    assert.equal(count.value, BigInt(size));
    assert.equal(bytes.length, 1 + own + count.size + size);
  }));
});

test("names read back", () => {
  const letters = [..."ABCDEFGHIJKLMNOPQRSTUVWXYZ_"];
  const segment = fc.tuple(
    fc.constantFrom(...letters),
    fc.string({ unit: fc.constantFrom(...letters, ..."0123456789"), maxLength: 3 }),
  ).map(([first, rest]) => first + rest);
  const path = fc.tuple(
    fc.constantFrom("", "\\", "^", "^^"),
    fc.array(segment, { minLength: 1, maxLength: 6 }),
  );
  fc.assert(fc.property(path, ([prefix, segments]) => {
    const text: string = name(prefix + segments.join("."));
    assert.ok(text.startsWith(prefix));
    const count = { 1: 0, 2: 1 }[segments.length] ?? 2;
    const flat = text.slice(prefix.length + count);
    assert.deepEqual(flat.match(/.{4}/gs), segments.map((each) => each.padEnd(4, "_")));
  }));
  for (const bad of ["a", "ABCDE", "1AB", "A..B", "A\\B"]) {
    assert.throws(() => name(bad), RangeError);
  }
});

// ACPI specification 6.5: examples of sections 19.6.36 (EISAID), 19.6.142 (ToUUID) and 20.2.
test("known encodings", () => {
  const cases: [Aml, string][] = [
    [eisaId("PNP0A08"), "0c41d00a08"],
    [eisaId("PNP0C0F"), "0c41d00c0f"],
    [uuid("33db4d5b-1ff7-401c-9657-7441c03dd766"), "1113" + "0a105b4ddb33f71f1c4096577441c03dd766"],
    [string("A"), "0d4100"],
    [name("\\"), "5c00"],
    [name("_SB.PCI0"), "2e5f53425f50434930"],
    [scope("\\", integer(2)), "10055c000a02"],
    [list([integer(0)], 3), "12030300"],
    [field("REGN", 1, 0, [["AAAA", 8], 32]), "5b810d5245474e0141414141080020"],
  ];
  for (const [bytes, expected] of cases) assert.equal(toHex(amlBytes(bytes)), expected);
});
