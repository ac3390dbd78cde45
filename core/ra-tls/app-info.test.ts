import assert from "node:assert/strict";
import { test } from "node:test";
import { parserProperty } from "../../tests/parser-property.ts";
import { fromHex, toHex } from "../bytes/bytes.ts";
import { decodeAppInfo, encodeAppInfo } from "./app-info.ts";

const INFO = {
  appId: new Uint8Array(20).fill(1),
  composeHash: new Uint8Array(32).fill(2),
  instanceId: new Uint8Array(20).fill(3),
  deviceId: new Uint8Array(32).fill(4),
  mrSystem: new Uint8Array(32).fill(5),
  mrAggregated: new Uint8Array(32).fill(6),
  osImageHash: new Uint8Array(32).fill(7),
  keyProviderInfo: new Uint8Array(0),
};
const BINARIES = `c414${"01".repeat(20)}c420${"02".repeat(32)}c414${"03".repeat(20)}` +
  [4, 5, 6, 7].map((n) => `c420${`0${n}`.repeat(32)}`).join("") + "c400";

test("app info is a MessagePack array of eight binaries and nil or an array", () => {
  assert.equal(toHex(encodeAppInfo({ ...INFO, initScriptHashes: undefined })), `99${BINARIES}c0`);
  assert.equal(toHex(encodeAppInfo({ ...INFO, initScriptHashes: [] })), `99${BINARIES}90`);
});

test("unmeasured init scripts differ from none, and old peers send eight members", () => {
  assert.equal(decodeAppInfo(fromHex(`99${BINARIES}c0`)).initScriptHashes, undefined);
  assert.deepEqual(decodeAppInfo(fromHex(`99${BINARIES}90`)).initScriptHashes, []);
  assert.deepEqual(decodeAppInfo(fromHex(`98${BINARIES}`)).osImageHash, INFO.osImageHash);
});

test("other shapes are refused", () => {
  for (
    const hex of ["80", "90", `99${BINARIES}`, `98${BINARIES}00`, `98${BINARIES.slice(0, -4)}a0`]
  ) {
    assert.throws(() => decodeAppInfo(fromHex(hex)), { code: "input/malformed" }, hex);
  }
});

test("init scripts are five digests at most", () => {
  const digest = `c420${"08".repeat(32)}`;
  const five = decodeAppInfo(fromHex(`99${BINARIES}95${digest.repeat(5)}`));
  assert.equal(five.initScriptHashes!.length, 5);
  for (const tail of [`96${digest.repeat(6)}`, `91c41f${"08".repeat(31)}`, "05", "a0", "9105"]) {
    assert.throws(() => decodeAppInfo(fromHex(`99${BINARIES}${tail}`)), {
      code: "input/malformed",
    });
  }
});

parserProperty("decodeAppInfo()", decodeAppInfo, () => encodeAppInfo(INFO));
