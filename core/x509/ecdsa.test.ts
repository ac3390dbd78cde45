import assert from "node:assert/strict";
import { test } from "node:test";
import { fromHex, toHex, utf8 } from "../bytes/bytes.ts";
import { pointOf, rawSignature, verifyEcdsa } from "./ecdsa.ts";

// RFC 6979 A.2.5, P-256, SHA-256, message "sample".
const POINT = pointOf(fromHex(
  "60fed4ba255a9d31c961eb74c6356d68c049b8923b61fa6ce669622e60f29fb6" +
    "7903fe1008b8bc99a41ae9e95628bc64f2f1b20c2d7e9f5177a3c294d4462299",
));
const SIGNATURE = fromHex(
  "efd48b2aacb6a8fd1140dd9cd45e81d69d2c877b56aaf991c34d0ea84eaf3716" +
    "f7cb1c942d657c41d436c7a1b6e29f65f3e900dbb9aff4064dc4ab2f843acda8",
);
const key = { curve: "P-256", point: POINT } as const;

test("the signature of RFC 6979 A.2.5 verifies, and nothing near it", async () => {
  assert.equal(await verifyEcdsa(key, utf8("sample"), SIGNATURE), true);
  assert.equal(await verifyEcdsa(key, utf8("test"), SIGNATURE), false);
  assert.equal(await verifyEcdsa(key, utf8("sample"), SIGNATURE.slice(1)), false);
  assert.equal(await verifyEcdsa(key, utf8("sample"), new Uint8Array(64)), false);
});

test("P-384 with SHA-384, RFC 6979 A.2.6", async () => {
  const point = pointOf(fromHex(
    "ec3a4e415b4e19a4568618029f427fa5da9a8bc4ae92e02e06aae5286b300c64def8f0ea9055866064a254515480bc13" +
      "8015d9b72d7d57244ea8ef9ac0c621896708a59367f9dfb9f54ca84b3f1c9db1288b231c3ae0d4fe7344fd2533264720",
  ));
  const signature = fromHex(
    "94edbb92a5ecb8aad4736e56c691916b3f88140666ce9fa73d64c4ea95ad133c81a648152e44acf96e36dd1e80fabe46" +
      "99ef4aeb15f178cea1fe40db2603138f130e740a19624526203b6351d0a3a94fa329c145786e679e7b82c71a38628ac8",
  );
  const p384 = { curve: "P-384", point } as const;
  assert.equal(await verifyEcdsa(p384, utf8("sample"), signature), true);
  assert.equal(await verifyEcdsa(p384, utf8("simple"), signature), false);
});

test("a point off the curve verifies nothing", async () => {
  const point = POINT.slice();
  point[40]! ^= 1;
  assert.equal(await verifyEcdsa({ ...key, point }, utf8("sample"), SIGNATURE), false);
  const short = POINT.slice(0, 64);
  assert.equal(await verifyEcdsa({ ...key, point: short }, utf8("sample"), SIGNATURE), false);
});

test("rawSignature() reads the one DER form", () => {
  const r = "00efd48b2aacb6a8fd1140dd9cd45e81d69d2c877b56aaf991c34d0ea84eaf3716";
  const s = "00f7cb1c942d657c41d436c7a1b6e29f65f3e900dbb9aff4064dc4ab2f843acda8";
  assert.equal(toHex(rawSignature(fromHex(`30460221${r}0221${s}`), "P-256")), toHex(SIGNATURE));
  assert.equal(toHex(rawSignature(fromHex("3006020101020102"), "P-256")).length, 128);
});

for (
  const [what, hex] of [
    ["a padded number", "300702020001020102"],
    ["a negative number", "3006020181020102"],
    ["an empty number", "30050200020102"],
    ["a third number", "3009020101020102020103"],
    ["a trailing byte", "300602010102010200"],
    ["a number too long", `3026022101${"00".repeat(32)}020101`],
  ] as const
) {
  test(`rawSignature() refuses ${what}`, () => {
    assert.throws(() => rawSignature(fromHex(hex), "P-256"), { code: "input/malformed" });
  });
}
