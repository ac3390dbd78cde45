import assert from "node:assert/strict";
import { test } from "node:test";
import { toHex, utf8 } from "../bytes/bytes.ts";
import { reportData } from "./report-data.ts";

test("app-data with sha512, spec attestation.md 3.3", () => {
  const expected =
    "7ea0b744ed5e9c0c83ff9f575668e1697652cd349f2027cdf26f918d4c53e8cd50b5ea9b449b4c3d50e20ae00ec29688d5a214e8daff8a10041f5d624dae8a01";
  assert.equal(toHex(reportData("app-data", utf8("test content"))), expected);
  assert.equal(toHex(reportData("app-data", utf8("test content"), "")), expected);
});

for (
  const [algorithm, digest] of [
    // printf 'app-data:' | sha256sum; Python's hashlib.sha3_256
    ["sha256", "005694f8e28f9db58425aab0538ee91821fbd73ea1698f5e19e6137fb5b3598c"],
    ["sha3-256", "a677f7914f1ada9fe85564e505bfabd6564aec47522e60166ef49fcd1ef5384e"],
  ] as const
) {
  test(`${algorithm} is padded with zeros on the right`, () => {
    assert.equal(toHex(reportData("app-data", utf8(""), algorithm)), digest + "00".repeat(32));
  });
}

test("raw content must be 64 bytes and an unknown algorithm is refused", () => {
  const raw = new Uint8Array(64).fill(7);
  assert.deepEqual(reportData("ignored", raw, "raw"), raw);
  assert.throws(() => reportData("x", raw.subarray(1), "raw"), { code: "input/malformed" });
  assert.throws(() => reportData("x", raw, "md5" as "sha256"), { code: "input/unsupported" });
});
