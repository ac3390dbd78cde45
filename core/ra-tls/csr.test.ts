import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { concatBytes, fromHex, toHex, utf8 } from "../bytes/bytes.ts";
import { ByteWriter } from "../bytes/byte-writer.ts";
import { p256Spki } from "../crypto/p256.ts";
import { writeScaleBytes, writeScaleString } from "../encoding/scale.ts";
import { AppError } from "../errors/app-error.ts";
import { encodeCsr, signCsr, verifyCsr } from "./csr.ts";

const KEY = new Uint8Array(32).fill(7);
const EMPTY_TDX = concatBytes(new Uint8Array(5), new Uint8Array(64), new Uint8Array(1));
const CONFIG = {
  subject: "test.example.com",
  altNames: [],
  serverAuth: true,
  clientAuth: false,
  includeAttestation: false,
  includeAppInfo: false,
};

// attestation.md 4.3, the reference's stable-encoding test.
const VECTOR = "44706c65617365207369676e20636572743a0c0102030040746573742e6578616d706c652e636f6d" +
  "00010000000000" + "00".repeat(70);

test("a V2 request has the reference's 117 bytes", () => {
  const csr = encodeCsr(Uint8Array.of(1, 2, 3), CONFIG, EMPTY_TDX);
  assert.equal(csr.length, 117);
  assert.equal(toHex(csr), VECTOR);
});

test("a V2 request with a quote carries the attestation without a length", () => {
  const attestation = fromHex(`0000040900 00${"00".repeat(64)}00`.replaceAll(" ", ""));
  const csr = encodeCsr(
    Uint8Array.of(1, 2, 3),
    { ...CONFIG, includeAttestation: true },
    attestation,
  );
  assert.equal(csr.length, 118);
  assert.equal(toHex(csr).slice(80), `00010001000000000004090000${"00".repeat(64)}00`);
});

test("a signed request yields what it asks for", () => {
  const config = {
    ...CONFIG,
    organization: "Acme",
    altNames: ["a.example", "10.0.0.1"],
    clientAuth: true,
    includeAttestation: true,
    includeAppInfo: true,
    notBefore: 1_700_000_000n,
    notAfter: 1_800_000_000n,
  };
  const csr = encodeCsr(p256Spki(KEY), config, EMPTY_TDX);
  const request = verifyCsr(csr, signCsr(csr, KEY), 2);
  assert.deepEqual(request, {
    publicKey: p256Spki(KEY),
    config,
    evidence: { form: "versioned", attestation: EMPTY_TDX },
  });
});

test("a V1 request carries quote and event log", () => {
  const w = new ByteWriter();
  writeScaleString(w, "please sign cert:");
  writeScaleBytes(w, p256Spki(KEY));
  w.u8(0);
  writeScaleString(w, "old");
  w.u8(0).u8(1).u8(0).u8(1);
  writeScaleBytes(w, utf8("quote"));
  writeScaleBytes(w, utf8("[]"));
  const csr = w.finish();
  const request = verifyCsr(csr, signCsr(csr, KEY), 1);
  assert.deepEqual(request.evidence, {
    form: "legacy",
    quote: utf8("quote"),
    eventLog: utf8("[]"),
  });
  assert.equal(request.config.includeAppInfo, false);
  assert.throws(() => verifyCsr(concatBytes(csr, Uint8Array.of(0)), new Uint8Array(70), 1), {
    code: "input/malformed",
  });
});

test("another key, another word, another version and a changed byte are refused", () => {
  const csr = encodeCsr(p256Spki(KEY), CONFIG, EMPTY_TDX);
  const signature = signCsr(csr, KEY);
  const other = new Uint8Array(32).fill(8);
  assert.throws(() => verifyCsr(csr, signCsr(csr, other), 2), { code: "crypto/invalid-signature" });
  assert.throws(() => verifyCsr(csr, new Uint8Array(0), 2), { code: "crypto/invalid-signature" });
  for (const version of [0, 3]) {
    assert.throws(() => verifyCsr(csr, signature, version), {
      code: "input/unsupported",
      message: `Unsupported API version: ${version}`,
    });
  }
  const changed = csr.slice();
  changed[csr.length - 2]! ^= 1;
  assert.throws(() => verifyCsr(changed, signature, 2), { code: "crypto/invalid-signature" });
  const otherWord = csr.slice();
  otherWord[1] = "P".charCodeAt(0);
  assert.throws(() => verifyCsr(otherWord, signature, 2), { message: "Invalid confirm word" });
  assert.throws(() => verifyCsr(encodeCsr(Uint8Array.of(1), CONFIG, EMPTY_TDX), signature, 2), {
    message: "Unsupported algorithm",
  });
});

test("any truncation or change of a request is refused in words", () => {
  const csr = encodeCsr(p256Spki(KEY), { ...CONFIG, altNames: ["a"], notAfter: 1n }, EMPTY_TDX);
  const signature = signCsr(csr, KEY);
  const changed = fc.tuple(fc.nat(csr.length - 1), fc.integer({ min: 1, max: 255 }))
    .map(([at, xor]) => csr.map((byte, i) => i === at ? byte ^ xor : byte));
  const truncated = fc.nat(csr.length - 1).map((length) => csr.slice(0, length));
  fc.assert(fc.property(fc.oneof(changed, truncated), fc.constantFrom(1, 2), (bytes, version) => {
    assert.throws(() => verifyCsr(bytes, signature, version), AppError);
  }));
});
