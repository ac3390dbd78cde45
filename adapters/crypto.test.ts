import assert from "node:assert/strict";
import { test } from "node:test";
import { p256, p384 } from "@noble/curves/nist.js";
import fc from "fast-check";
import { webCrypto } from "#core/crypto/crypto-provider.ts";
import { p256PublicPoint, randomP256Scalar } from "#core/crypto/p256.ts";
import { type EcdsaCurve, verifyEcdsa } from "#core/x509/ecdsa.ts";
import { hostCrypto, nodeCrypto, nodePublicPoint } from "./crypto.ts";

const providers = { nodeCrypto, hostCrypto, webCrypto };
const CURVES = [["P-256", p256], ["P-384", p384]] as const;
const message = fc.uint8Array({ maxLength: 300 });

for (const [name, provider] of Object.entries(providers)) {
  for (const [curve, noble] of CURVES) {
    const verdict = (point: Uint8Array, text: Uint8Array, signature: Uint8Array) =>
      verifyEcdsa({ curve: curve as EcdsaCurve, point }, text, signature, provider);

    test(`${name} agrees with @noble/curves on ${curve}`, async () => {
      const { secretKey } = noble.keygen();
      await fc.assert(
        fc.asyncProperty(message, fc.nat(), async (text, flip) => {
          const point = noble.getPublicKey(secretKey, false);
          const signature = noble.sign(text, secretKey, { lowS: false });
          assert.equal(await verdict(point, text, signature), true);
          const broken = signature.slice();
          broken[flip % broken.length]! ^= 1 << (flip & 7);
          assert.equal(await verdict(point, text, broken), false);
        }),
        { numRuns: 20 },
      );
    });

    test(`${name} takes no zero, no n and no point off ${curve}`, async () => {
      const point = noble.getPublicKey(noble.keygen().secretKey, false);
      const size = (point.length - 1) / 2;
      const order = noble.Point.CURVE().n.toString(16).padStart(2 * size, "0");
      const n = Uint8Array.from(order.match(/../g)!, (byte) => parseInt(byte, 16));
      const one = new Uint8Array(size);
      one[size - 1] = 1;
      for (const [r, s] of [[new Uint8Array(size), one], [one, new Uint8Array(size)], [n, n]]) {
        const signature = new Uint8Array(2 * size);
        signature.set(r!);
        signature.set(s!, size);
        assert.equal(await verdict(point, one, signature), false);
      }
      const { secretKey } = noble.keygen();
      const signature = noble.sign(one, secretKey, { lowS: false });
      const off = noble.getPublicKey(secretKey, false);
      off[size * 2]! ^= 1;
      assert.equal(await verdict(off, one, signature), false);
      assert.equal(
        await verdict(new Uint8Array(point.length).fill(4, 0, 1), one, signature),
        false,
      );
    });
  }

  test(`${name} hashes as FIPS 180-4 says`, () => {
    const digest = provider.sha256(new TextEncoder().encode("abc"));
    assert.equal(
      Array.from(digest, (byte) => byte.toString(16).padStart(2, "0")).join(""),
      "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad",
    );
  });
}

test("nodePublicPoint() gives what @noble/curves gives", () => {
  for (let i = 0; i < 20; i++) {
    const scalar = randomP256Scalar();
    assert.deepEqual(nodePublicPoint(scalar), p256PublicPoint(scalar));
  }
  const one = new Uint8Array(32);
  one[31] = 1;
  assert.deepEqual(nodePublicPoint(one), p256PublicPoint(one));
});
