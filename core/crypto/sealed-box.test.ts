import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { x25519 } from "@noble/curves/ed25519.js";
import { fromHex, fromUtf8, toHex, utf8 } from "../bytes/bytes.ts";
import { localProviderKey, openSealedBox, sealBox } from "./sealed-box.ts";

// kms.md 11.1, vectors 5 and 6: made by libsodium and by the reference.
const SECRET = fromHex("25f44372820ad73ca79d1e33d02c044c86e3e0a879a8ee9b9640459f9c95a8c4");
const BOX = fromHex(
  "5dc724bd8d6487f5e7984b1fd1a29cf4d125e34354034fa5e2af0a129a93ad1728d05e60457bbb7fe2773cc5687d75" +
    "11204b05543713527558b200cf2d83b847ee1f2b8f32102987708196b13b2d478dc8cdae26c7",
);

test("openSealedBox() opens boxes of libsodium", () => {
  assert.equal(
    toHex(x25519.getPublicKey(SECRET)),
    "ef3f98a8930de673a9b2f1c6fc482198d96e9254e497d9589b6bbc16edd56f1f",
  );
  assert.equal(fromUtf8(openSealedBox(SECRET, BOX)), "This is a test message for sealed box");
  const secret = fromHex("42dc490e21173b1115d803dd0ec189bb73c9300562e1cf7e3772f4a26a142943");
  const empty = fromHex(
    "c6570ddb03f68f7e02a2db7055e0c9a626c9f525084759ecc9b6fd03e2dae37c8b06ecd23a0546092670b620c7d62623",
  );
  assert.equal(openSealedBox(secret, empty).length, 0);
});

test("openSealedBox() refuses what was cut, changed, or made for another", () => {
  assert.throws(() => openSealedBox(SECRET, BOX.subarray(0, 47)), { code: "input/malformed" });
  for (const at of [0, 32, 48, BOX.length - 1]) {
    const changed = BOX.slice();
    changed[at]! ^= 1;
    assert.throws(() => openSealedBox(SECRET, changed), { code: "crypto/decryption-failed" });
  }
  const lowOrder = BOX.slice();
  lowOrder.fill(0, 0, 32);
  assert.throws(() => openSealedBox(SECRET, lowOrder), { code: "input/malformed" });
  assert.throws(() => sealBox(new Uint8Array(32), BOX), { code: "input/malformed" });
});

test("sealBox() makes what openSealedBox() opens", () => {
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 200 }), (message) => {
      assert.deepEqual(
        openSealedBox(SECRET, sealBox(x25519.getPublicKey(SECRET), message)),
        message,
      );
    }),
    { numRuns: 20 },
  );
});

test("localProviderKey() hashes sealing key and measurements", () => {
  assert.equal(
    toHex(localProviderKey(utf8("sealing key"), utf8("measurements"))),
    "dc3b7262588a756aa3c809cecbc1e4a04e1ceb4713731ef49cb335fd68d07781",
  );
});
