import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { makeTlsFetch } from "#adapters/tls-fetch.ts";
import { concatBytes, fromUtf8, toHex, utf8 } from "#core/bytes/bytes.ts";
import { deriveAppKeys, x25519PublicKey } from "#core/crypto/app-keys.ts";
import { k256PublicKey } from "#core/crypto/k256.ts";
import { simulatedCvm } from "../../tests/simulated-cvm.ts";
import { baseUrl, guestFetch, startSurroundings } from "./kms-stack.fixture.ts";
import type { KmsService } from "./kms-service.ts";

/**
 * What a client sees that knows field numbers alone (kms.md 2.1): messages are written and read here
 * by hand, so that a slip in our own descriptions cannot hide in both ends.
 */

const GATEWAY = "99".repeat(20);
const cvm = simulatedCvm();
let around: Awaited<ReturnType<typeof startSurroundings>>;
let kms: KmsService;

before(async () => {
  around = await startSurroundings();
  await around.allow({
    gatewayAppId: GATEWAY,
    osImages: [toHex(cvm.osImageHash)],
    apps: { [toHex(cvm.appId)]: { composeHashes: [toHex(cvm.composeHash)] } },
  });
  kms = await around.start();
});

after(async () => {
  await kms.close();
  await around.close();
});

type Fields = Map<number, (Uint8Array | bigint)[]>;

/** Wire types 0 and 2 of the protobuf encoding; anything else fails the test. */
function read(bytes: Uint8Array): Fields {
  const fields: Fields = new Map();
  let at = 0;
  const varint = () => {
    let value = 0n;
    for (let shift = 0n;; shift += 7n) {
      const byte = bytes[at++];
      assert.ok(byte !== undefined, "varint is cut off");
      value |= BigInt(byte & 0x7f) << shift;
      if (byte < 0x80) return value;
    }
  };
  while (at < bytes.length) {
    const key = Number(varint());
    const wireType = key & 7;
    assert.ok(wireType === 0 || wireType === 2, `wire type ${wireType}`);
    let value: Uint8Array | bigint = varint();
    if (wireType === 2) {
      const length = Number(value);
      value = bytes.slice(at, at + length);
      assert.equal(value.length, length, "field is cut off");
      at += length;
    }
    const number = key >> 3;
    fields.set(number, [...fields.get(number) ?? [], value]);
  }
  return fields;
}

const bytesField = (number: number, value: Uint8Array) => {
  assert.ok(value.length < 128);
  return concatBytes(Uint8Array.of(number << 3 | 2, value.length), value);
};
const smallField = (number: number, value: number) => Uint8Array.of(number << 3, value);

function only(fields: Fields, number: number): Uint8Array {
  const values = fields.get(number);
  assert.equal(values?.length, 1, `field ${number}`);
  assert.ok(values![0] instanceof Uint8Array, `field ${number}`);
  return values![0];
}

async function call(fetch: ReturnType<typeof makeTlsFetch>, method: string, body: Uint8Array) {
  const response = await fetch(`${baseUrl(kms)}/${method}`, { method: "POST", headers: {}, body });
  assert.equal(response.headers.get("content-type"), "application/octet-stream");
  assert.match(response.headers.get("x-app-version")!, /^v\d+\.\d+\.\d+ \(/);
  const answer = read(new Uint8Array(await response.arrayBuffer()));
  return { status: response.status, answer };
}

const anyone = makeTlsFetch({ verify: "none", checkHostname: false });
const none = new Uint8Array();
const appKeys = () => deriveAppKeys(kms.identity, cvm.appId, cvm.instanceId);

test("GetAppKey in protobuf over RA-TLS", async () => {
  const { status, answer } = await call(
    await guestFetch(kms),
    "KMS.GetAppKey",
    concatBytes(smallField(1, 1), bytesField(2, none)),
  );
  assert.equal(status, 200);
  const keys = appKeys();
  assert.equal(fromUtf8(only(answer, 1)), kms.identity.rootCaPem);
  assert.deepEqual(only(answer, 2), keys.diskCryptKey);
  assert.deepEqual(only(answer, 3), keys.envCryptKey);
  assert.deepEqual(only(answer, 4), keys.k256Key);
  assert.deepEqual(only(answer, 5), keys.k256Signature);
  assert.equal(fromUtf8(only(answer, 6)), GATEWAY);
  assert.equal(fromUtf8(only(answer, 7)), GATEWAY);
  assert.deepEqual(only(answer, 8), cvm.osImageHash);
  assert.deepEqual([...answer.keys()].sort((a, b) => a - b), [1, 2, 3, 4, 5, 6, 7, 8]);
});

test("GetTempCaCert, GetMeta and GetAppEnvEncryptPubKey in protobuf", async () => {
  const temporary = (await call(anyone, "GetTempCaCert", none)).answer;
  assert.equal(fromUtf8(only(temporary, 1)), kms.identity.tempCaPem);
  assert.match(fromUtf8(only(temporary, 2)), /^-----BEGIN PRIVATE KEY-----/);
  assert.equal(fromUtf8(only(temporary, 3)), kms.identity.rootCaPem);

  const meta = (await call(anyone, "GetMeta", none)).answer;
  assert.equal(fromUtf8(only(meta, 1)), kms.identity.rootCaPem);
  assert.deepEqual(only(meta, 3), k256PublicKey(kms.identity.k256Key));
  assert.equal(fromUtf8(only(meta, 6)), GATEWAY);
  assert.equal(meta.has(2), false, "false is not written");
  assert.equal(meta.has(4), false, "there is no bootstrap info");

  const signed = (await call(anyone, "GetAppEnvEncryptPubKey", bytesField(1, cvm.appId))).answer;
  assert.deepEqual(only(signed, 1), x25519PublicKey(appKeys().envCryptKey));
  assert.equal(only(signed, 2).length, 65);
  assert.equal(typeof signed.get(3)![0], "bigint");
  assert.equal(only(signed, 4).length, 65);
});

test("a refusal in protobuf is a message in field 1", async () => {
  const { status, answer } = await call(anyone, "GetAppKey", none);
  assert.equal(status, 400);
  assert.equal(fromUtf8(only(answer, 1)), "No attestation provided");
  const odd = await call(anyone, "GetAppEnvEncryptPubKey", bytesField(1, utf8("short")));
  assert.equal(fromUtf8(only(odd.answer, 1)), "app_id must be 20 bytes");
  const broken = await call(anyone, "GetAppKey", Uint8Array.of(0x0a, 0xff));
  assert.match(fromUtf8(only(broken.answer, 1)), /not protobuf/);
});
