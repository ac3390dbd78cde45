import assert from "node:assert/strict";
import { test } from "node:test";
import { fromHex, toHex } from "../bytes/bytes.ts";
import {
  deriveAppCaKey,
  deriveAppKeys,
  deriveEnvKey,
  deriveSeededKeys,
  x25519PublicKey,
} from "./app-keys.ts";
import { k256PublicKey } from "./k256.ts";

// kms.md 11.2: computed by another implementation.
const ROOT = {
  caKey: fromHex("f57527cea4ab7ffb49af99b158cdc0e3ec06398f528349ea236b7d2afe19cec1"),
  k256Key: new Uint8Array(32).fill(0x01),
};
const APP_ID = new Uint8Array(20).fill(0x11);
const INSTANCE_ID = new Uint8Array(20).fill(0x33);

test("the keys of an instance match the reference derivation", () => {
  const keys = deriveAppKeys(ROOT, APP_ID, INSTANCE_ID);
  assert.equal(
    toHex(keys.diskCryptKey),
    "1fef665a1667042d9d3e16305ac19dff2082d4fa6b0d27505bb9e6b7379bb58d",
  );
  assert.equal(
    toHex(keys.envCryptKey),
    "a7470db8cfdd0fe24134b461d60766afa7c078abe6dce9f2c8a5c44034ca400e",
  );
  assert.equal(
    toHex(keys.k256Key),
    "88fa429170ad091e0f87b335ba19b1729610ac25441728807ce3325161846baf",
  );
  assert.equal(
    toHex(k256PublicKey(keys.k256Key)),
    "02a594d1e64985d03463fc26e666eaf6a82b6c75834ca8c25810b25069b401ebc3",
  );
  assert.equal(
    toHex(keys.k256Signature),
    "9ec2e6deec77b3584de4c6406034b39a4e4a04643cbf56655247774c1a15f03e" +
      "73970201967d270928b41fec3cfdbb7538adc5d4fbd328c10c6927621024f00800",
  );
});

test("without an instance id the disk key belongs to the app", () => {
  assert.equal(
    toHex(deriveAppKeys(ROOT, APP_ID, new Uint8Array(0)).diskCryptKey),
    "14de7a7fd8bddf8e641a55ca97f043cac4344d175419f743940840f3a348f049",
  );
});

test("the environment public key is the X25519 point of the released secret", () => {
  assert.equal(
    toHex(x25519PublicKey(deriveEnvKey(ROOT.caKey, APP_ID))),
    "93cf259f68b24775d54290a8ea57cf93efc994d3ff28a7b8ba7a39e9f512302f",
  );
});

test("the app CA key derives from the CA key", () => {
  assert.equal(
    toHex(deriveAppCaKey(ROOT.caKey, APP_ID)),
    "5b779e0a9fe80b2e5866d94958daa1a4e29a183228b3f37acd7eae153e18a75f",
  );
});

test("identifiers of another length are refused", () => {
  for (const length of [0, 19, 21, 32]) {
    assert.throws(() => deriveAppKeys(ROOT, new Uint8Array(length), INSTANCE_ID), {
      code: "input/malformed",
      message: "app_id must be 20 bytes",
    });
    assert.throws(() => deriveAppCaKey(ROOT.caKey, new Uint8Array(length)), {
      code: "input/malformed",
    });
  }
  assert.throws(() => deriveAppKeys(ROOT, APP_ID, new Uint8Array(19)), {
    code: "input/malformed",
  });
});

test("a seed yields the keys of an app without a KMS", () => {
  const keys = deriveSeededKeys(new Uint8Array(32).fill(0x42));
  assert.equal(
    toHex(keys.appKey),
    "8512d78a8d740c7b6cdf839a4f0b91973beebd751755dd8e0beb1977ed7ebab2",
  );
  assert.equal(
    toHex(keys.diskCryptKey),
    "7da9ed9d9f115d7af8cd3b1d3543ab8b593f7b6861bd7afdb6068103b0b86650",
  );
  assert.equal(
    toHex(keys.k256Key),
    "bf80e92f0094755c9c2f3e83b75ae5ca0c3f427b346bf4bcf693747779a42e1d",
  );
});
