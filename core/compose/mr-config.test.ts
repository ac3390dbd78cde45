import assert from "node:assert/strict";
import { test } from "node:test";
import { fromUtf8, toBase64, toHex, utf8 } from "../bytes/bytes.ts";
import { AppError } from "../errors/app-error.ts";
import {
  checkMrConfigId,
  encodeMrConfigV3,
  type LaunchIdentity,
  mrConfigIdV1,
  mrConfigIdV2,
  mrConfigIdV3,
  mrConfigV3Hash,
  parseMrConfigV3,
} from "./mr-config.ts";

// Inputs and answers of spec/os.md 8.2 and spec/vmm.md 4.6.
const fill = (byte: number, length: number) => new Uint8Array(length).fill(byte);
const LAUNCH = {
  composeHash: fill(0x22, 32),
  appId: fill(0x11, 20),
  instanceId: fill(0x44, 20),
  gpuPolicyHash: fill(0x55, 32),
  initScriptHashes: [],
  keyProvider: "kms",
  keyProviderId: fill(0x33, 32),
} satisfies LaunchIdentity;
const DOCUMENT = `{"app_id":"${"11".repeat(20)}","compose_hash":"${"22".repeat(32)}",` +
  `"gpu_policy_hash":"${"55".repeat(32)}","instance_id":"${"44".repeat(20)}",` +
  `"key_provider":"kms","key_provider_id":"${"33".repeat(32)}","version":3}`;
const V3_HASH = "90e5cffa571b22c2ca846872d6fb7b071aa1346f1a1f87f72869c47b39d94099";

test("version 1 carries the compose hash", () => {
  assert.equal(
    toBase64(mrConfigIdV1(LAUNCH.composeHash)),
    "ASIiIiIiIiIiIiIiIiIiIiIiIiIiIiIiIiIiIiIiIiIiAAAAAAAAAAAAAAAAAAAA",
  );
});

test("version 2 hashes app and key provider too", () => {
  const zeros = "00".repeat(15);
  assert.equal(
    toHex(mrConfigIdV2(LAUNCH)),
    "027f2ca741da9d356026ab20ca640abf06198829a128817b091bbc9aec1ed97b60" + zeros,
  );
  assert.equal(
    toHex(mrConfigIdV2({ ...LAUNCH, keyProvider: "none", keyProviderId: fill(0, 0) })),
    "022b90c730130d4ba9f7669253e5a0fb289b5688914f8e1f81efdf97e6d1142a81" + zeros,
  );
});

test("the version 3 document and its hashes are the reference's", () => {
  const { initScriptHashes: _, ...withoutScripts } = LAUNCH;
  const document = encodeMrConfigV3(withoutScripts);
  assert.equal(fromUtf8(document), DOCUMENT);
  assert.equal(toHex(mrConfigV3Hash(document)), V3_HASH);
  assert.equal(
    toBase64(mrConfigIdV3(document)),
    "A5Dlz/pXGyLCyoRoctb7ewcaoTRvGh+H9yhpxHs52UCZAAAAAAAAAAAAAAAAAAAA",
  );
});

test("a zero register means that the host bound nothing", () => {
  assert.equal(checkMrConfigId(fill(0, 48), LAUNCH), 0);
});

test("each version is accepted for the launch it binds", () => {
  const document = utf8(DOCUMENT);
  assert.equal(checkMrConfigId(mrConfigIdV1(LAUNCH.composeHash), LAUNCH), 1);
  assert.equal(checkMrConfigId(mrConfigIdV2(LAUNCH), LAUNCH), 2);
  assert.equal(checkMrConfigId(mrConfigIdV3(document), LAUNCH, document), 3);
});

test("a launch that differs in any bound member is refused", () => {
  const refused = (id: Uint8Array, launch: LaunchIdentity, document?: Uint8Array) =>
    assert.throws(
      () => checkMrConfigId(id, launch, document),
      (error) => error instanceof AppError && error.code === "measurement/mr-config-mismatch",
    );
  const document = utf8(DOCUMENT);
  refused(mrConfigIdV1(fill(0x23, 32)), LAUNCH);
  refused(mrConfigIdV2(LAUNCH), { ...LAUNCH, keyProviderId: fill(0x34, 32) });
  refused(mrConfigIdV3(document), LAUNCH);
  refused(mrConfigIdV3(document), LAUNCH, utf8(DOCUMENT + " "));
  refused(mrConfigIdV3(utf8(DOCUMENT + " ")), LAUNCH, document);
  for (
    const change of [
      { appId: fill(1, 20) },
      { composeHash: fill(1, 32) },
      { gpuPolicyHash: fill(1, 32) },
      { instanceId: fill(1, 20) },
      { keyProvider: "tpm" as const },
      { keyProviderId: fill(1, 32) },
    ]
  ) refused(mrConfigIdV3(document), { ...LAUNCH, ...change }, document);
  refused(Uint8Array.of(4, ...fill(0, 47)), LAUNCH);
});

test("init scripts are compared in order, and an empty list allows none", () => {
  const scripts = [fill(1, 32), fill(2, 32)];
  const bind = (initScriptHashes: readonly Uint8Array[]) => {
    const document = encodeMrConfigV3({ ...LAUNCH, initScriptHashes });
    return { document, id: mrConfigIdV3(document) };
  };
  const launch = { ...LAUNCH, initScriptHashes: scripts };
  const both = bind(scripts);
  assert.equal(checkMrConfigId(both.id, launch, both.document), 3);
  for (const other of [bind([]), bind(scripts.toReversed()), bind(scripts.slice(1))]) {
    assert.throws(() => checkMrConfigId(other.id, launch, other.document), AppError);
  }
});

test("documents with unknown members, other versions or wrong lengths are refused", () => {
  assert.throws(() => parseMrConfigV3(DOCUMENT.replace("app_id", "apps")), /unknown field/);
  assert.throws(() => parseMrConfigV3(DOCUMENT.replace(":3}", ":2}")), /version must be 3/);
  assert.throws(() => parseMrConfigV3(DOCUMENT.replace('"1111', '"11')), /expected 20/);
  assert.equal(parseMrConfigV3(DOCUMENT.replace(',"version":3', "")).keyProvider, "kms");
});

test("before there are keys, everything but who gives them is compared", () => {
  const unknown = { ...LAUNCH, keyProviderId: undefined };
  const other = { ...unknown, composeHash: new Uint8Array(32).fill(0xee) };
  const document = encodeMrConfigV3(LAUNCH);
  const cases = [
    [mrConfigIdV1(LAUNCH.composeHash), undefined],
    [mrConfigIdV3(document), document],
  ] as const;
  for (const [id, text] of cases) {
    checkMrConfigId(id, unknown, text);
    assert.throws(() => checkMrConfigId(id, other, text), {
      code: "measurement/mr-config-mismatch",
    });
  }
  // Version 2 is one hash over all of it: there is nothing to compare yet.
  checkMrConfigId(mrConfigIdV2(LAUNCH), unknown);
});
