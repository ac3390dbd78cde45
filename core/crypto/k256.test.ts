import assert from "node:assert/strict";
import { test } from "node:test";
import { fromHex, toHex, utf8 } from "../bytes/bytes.ts";
import { k256PublicKey, recoverK256, signK256, verifyK256 } from "./k256.ts";
import {
  envPublicKeyMessage,
  kmsIssuedMessage,
  recoverEnvPublicKeySigner,
} from "./kms-signatures.ts";

const KROOT = new Uint8Array(32).fill(0x01);
const APP_ID = new Uint8Array(20).fill(0x11);
const ENV_PUBLIC = fromHex("93cf259f68b24775d54290a8ea57cf93efc994d3ff28a7b8ba7a39e9f512302f");
const TIMESTAMP = 1_700_000_000n;
const ENV_V1 = fromHex(
  "c0989e470967189e59d7b26238eadbda93b8591d6dd935d2457c16aaf8c8e6e3" +
    "7e73fba76f6211e04294ec61bc85cb788c793c745e179bff9e05b9d6d09ac1da00",
);

test("signatures are those of another implementation (kms.md 11.2)", () => {
  assert.equal(
    toHex(k256PublicKey(KROOT)),
    "031b84c5567b126440995d3ed5aaba0565d71e1834604819ff9c17f5e9d5dd078f",
  );
  assert.equal(
    toHex(signK256(KROOT, envPublicKeyMessage(APP_ID, ENV_PUBLIC))),
    "379d578bd258c13f31a3dabd5ab9ce3cafbeed5f3d2f73d57aa5ae45e2a0bb1a" +
      "335e80e2b0db9b2e9a88ee451cb64c82c1204b3787868d571fc3d092cec9f53501",
  );
  assert.equal(
    toHex(signK256(KROOT, envPublicKeyMessage(APP_ID, ENV_PUBLIC, TIMESTAMP))),
    toHex(ENV_V1),
  );
});

test("the KMS root is recovered from the reference simulator's app key (kms.md 11.1 vector 3)", () => {
  const appId = fromHex("5bb4ff9a3837357f19dc176407a5709c62eb6c56");
  const appKey = fromHex("d6e88992cdeeee35fe70b5db61ab66cdb191fb9b6ec9313757ef162dd7214d5d");
  const signature = fromHex(
    "9e618603e72d01fedb82deff6daf2d62a572becf0059eec3f89c1ab40e1f2e59" +
      "4d2a283f843f34e8f39e4cc49a612496ce67223a12ac923f8efe330346dfc6c500",
  );
  assert.equal(
    toHex(k256PublicKey(appKey)),
    "02818494263695e8839122dbd88e281d7380622999df4e60a14befa0f2d096fc7c",
  );
  assert.equal(
    toHex(recoverK256(signature, kmsIssuedMessage(appId, k256PublicKey(appKey)))),
    "0321529e458424ab1f710a3a57ec4dad2fb195ddca572f7469242ba6c7563085b6",
  );
});

test("the signer of a legacy environment key is recovered (kms.md 11.1 vector 2)", () => {
  const publicKey = fromHex("e33a1832c6562067ff8f844a61e51ad051f1180b66ec2551fb0251735f3ee90a");
  const signature = fromHex(
    "8542c49081fbf4e03f62034f13fbf70630bdf256a53032e38465a27c36fd6bed" +
      "7a5e7111652004aef37f7fd92fbfc1285212c4ae6a6154203a48f5e16cad2cef00",
  );
  assert.equal(
    toHex(recoverK256(signature, envPublicKeyMessage(new Uint8Array(20), publicKey))),
    "0217610d74cbd39b6143842c6d8bc310d79da1d82cc9d17f8876376221eda0c38f",
  );
});

test("a signature of wrong length, of zeros or with an impossible recovery id is refused", () => {
  const message = utf8("m");
  for (
    const signature of [
      ENV_V1.slice(0, 64),
      new Uint8Array(65),
      Uint8Array.from([...ENV_V1.slice(0, 64), 27]),
    ]
  ) {
    assert.throws(() => recoverK256(signature, message), { code: "crypto/invalid-signature" });
  }
});

test("another signer is refused", () => {
  const message = utf8("m");
  const signature = signK256(KROOT, message);
  verifyK256(k256PublicKey(KROOT), message, signature);
  assert.throws(
    () => verifyK256(k256PublicKey(new Uint8Array(32).fill(2)), message, signature),
    { code: "crypto/invalid-signature" },
  );
});

test("an environment key is taken for 300 s, and from a clock at most 60 s ahead", () => {
  const signed = { publicKey: ENV_PUBLIC, signature: ENV_V1, timestamp: TIMESTAMP };
  const at = (seconds: number) => new Date((Number(TIMESTAMP) + seconds) * 1000);
  for (const age of [-60, 0, 300]) {
    assert.deepEqual(recoverEnvPublicKeySigner(signed, APP_ID, at(age)), k256PublicKey(KROOT));
  }
  for (const age of [-61, 301]) {
    assert.throws(() => recoverEnvPublicKeySigner(signed, APP_ID, at(age)), {
      code: "crypto/invalid-signature",
    });
  }
});
