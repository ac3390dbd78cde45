import assert from "node:assert/strict";
import { test } from "node:test";
import { fromHex, fromUtf8, utf8 } from "../bytes/bytes.ts";
import { x25519PublicKey } from "./app-keys.ts";
import {
  decryptEnv,
  decryptWithSecret,
  encryptEnv,
  parseEnv,
  renderEnvFile,
  renderEnvJson,
  selectEnv,
} from "./env-encryption.ts";

// attestation.md 4.6
const SECRET = fromHex("7c282bf94b35dc47801dc953bfa0896fc2bd313381d3e8eca4e42f6536d2a96f");
const BLOB = fromHex(
  "0bd18749612f4c8b9dd583c7d6a646b90abd34e3c731a7708d0caf9039095641e1f0948e775f0b7351788db7f246d5" +
    "1806954626dcccb6a60d64665ca3715c6bef75616cab476d27bba04080361200d6a58cec",
);

test("the reference's blob opens", () => {
  assert.equal(fromUtf8(decryptWithSecret(SECRET, BLOB)), '[{"key":"","value":""}]');
});

test("what is sealed to the public key opens with the secret", () => {
  const vars = [{ key: "TOKEN", value: "sécret" }];
  assert.deepEqual(decryptEnv(SECRET, encryptEnv(x25519PublicKey(SECRET), vars)), vars);
});

test("short, changed and foreign blobs are refused", () => {
  for (const length of [0, 31, 43]) {
    assert.throws(() => decryptWithSecret(SECRET, BLOB.slice(0, length)), {
      code: "input/malformed",
    });
  }
  assert.throws(() => decryptWithSecret(SECRET, BLOB.slice(0, 44)), {
    code: "crypto/decryption-failed",
  });
  const changed = BLOB.slice();
  changed[50]! ^= 1;
  assert.throws(() => decryptWithSecret(SECRET, changed), { code: "crypto/decryption-failed" });
  assert.throws(() => decryptWithSecret(new Uint8Array(32).fill(7), BLOB), {
    code: "crypto/decryption-failed",
  });
});

test("an ephemeral key of low order is refused", () => {
  const blob = BLOB.slice();
  blob.fill(0, 0, 32);
  assert.throws(() => decryptWithSecret(SECRET, blob), { code: "input/malformed" });
});

test("only allowed names are kept, sorted, the last of two counts", () => {
  const selected = selectEnv([
    { key: "B", value: "1" },
    { key: "A", value: "2" },
    { key: "not a name, but not allowed either", value: "3" },
    { key: "B", value: "4" },
  ], ["A", "B"]);
  assert.deepEqual([...selected.vars], [["A", "2"], ["B", "4"]]);
  assert.deepEqual(selected.skipped, ["not a name, but not allowed either"]);
});

test("limits of names, values, their sum and their count hold at the boundary", () => {
  const kib128 = "x".repeat(128 * 1024);
  const longest = "K".repeat(255);
  selectEnv([{ key: longest, value: kib128 }], [longest]);
  assert.throws(() => selectEnv([{ key: `${longest}K`, value: "" }], [`${longest}K`]), {
    code: "input/too-large",
  });
  assert.throws(() => selectEnv([{ key: "A", value: `${kib128}x` }], ["A"]), {
    code: "input/too-large",
  });
  const eight = Array.from({ length: 8 }, (_, i) => ({ key: `K${i}`, value: kib128 }));
  assert.throws(() => selectEnv(eight, eight.map(({ key }) => key)), { code: "input/too-large" });
  assert.throws(() => selectEnv([{ key: "1A", value: "" }], ["1A"]), { code: "input/malformed" });
  const items = (count: number) =>
    utf8(JSON.stringify({ env: Array(count).fill({ key: "A", value: "" }) }));
  assert.equal(parseEnv(items(1024)).length, 1024);
  assert.throws(() => parseEnv(items(1025)), { code: "input/too-large" });
  assert.throws(() => parseEnv(utf8('{"env":[{"key":"A"}]}')), { code: "input/malformed" });
});

test("the file quotes and escapes as systemd and the reference expect", () => {
  const vars = new Map([
    ["A", "plain"],
    ["B", "two words"],
    ["C", 'say "hi" for $5 `now`'],
    ["D", "line\nbreak"],
    ["E", "back\\slash"],
    ["F", ""],
  ]);
  assert.equal(
    renderEnvFile(vars),
    'A=plain\nB="two words"\nC="say \\"hi\\" for \\$5 \\`now\\`"\nD="line\\nbreak"\n' +
      'E="back\\slash"\nF=\n',
  );
  assert.equal(renderEnvJson(new Map([["A", "x\ny"]])), '{"A":"x\\ny"}');
});
