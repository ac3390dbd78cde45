import assert from "node:assert/strict";
import { test } from "node:test";
import { encodeAttestation } from "#core/attestation/versioned-attestation.ts";
import { fromHex, fromUtf8, toHex, utf8 } from "#core/bytes/bytes.ts";
import { k256PublicKey, verifyK256 } from "#core/crypto/k256.ts";
import { beginSession, sessionReportData } from "#core/ra-tls/session.ts";
import { createKmsApp } from "./app.ts";
import { attestationFor, fakePorts, KEYS, NOW } from "./fakes.ts";

async function setup() {
  const clock = { now: NOW };
  const fakes = await fakePorts({ now: () => clock.now });
  const app = createKmsApp(fakes.ports);
  const offer = async () => await (await app.request("/v1/session")).json();
  const post = async (body: object) => {
    const response = await app.request("/v1/session", {
      method: "POST",
      headers: { "content-type": "application/json" },
      body: JSON.stringify(body),
    });
    // deno-lint-ignore no-explicit-any
    return { status: response.status, body: await response.json() as any };
  };
  /** A client's request, with what a test changes in it. */
  const begin = async (
    changes: { nonce?: string; boundTo?: Uint8Array; request?: string } = {},
  ) => {
    const { nonce, public_key } = await offer();
    const session = await beginSession(fromHex(public_key));
    const reportData = sessionReportData(
      fromHex(changes.nonce ?? nonce),
      fromHex(public_key),
      changes.boundTo ?? session.encapsulated,
    );
    const { platform, stack } = attestationFor(new Uint8Array());
    const attestation = encodeAttestation({ platform, stack: { ...stack, reportData } });
    const request = await session.seal(utf8(changes.request ?? "{}"));
    const body = {
      nonce: changes.nonce ?? nonce,
      encapsulated: toHex(session.encapsulated),
      attestation: toHex(attestation),
      request: toHex(request),
    };
    return { session, reportData, body };
  };
  return { ...fakes, clock, offer, post, begin };
}

test("a session gets what /v1/app-keys gives, and only its client can read it", async () => {
  const { begin, post, appraisals, rows } = await setup();
  const { session, body, reportData } = await begin();
  const answered = await post(body);
  assert.equal(answered.status, 200, answered.body.detail);
  assert.deepEqual(appraisals[0]!.expectedReportData, reportData);
  const answer = JSON.parse(fromUtf8(await session.openAnswer(fromHex(answered.body.answer))));
  // kms.md 11.2
  assert.equal(
    answer.epochs[0].disk_crypt_key,
    "1fef665a1667042d9d3e16305ac19dff2082d4fa6b0d27505bb9e6b7379bb58d",
  );
  assert.deepEqual([rows[0]!.method, rows[0]!.outcome], ["GetAppKeys", "released"]);
  const other = (await begin()).session;
  await assert.rejects(other.openAnswer(fromHex(answered.body.answer)), {
    code: "crypto/decryption-failed",
  });
  const changed = fromHex(answered.body.answer);
  changed[20]! ^= 1;
  await assert.rejects(session.openAnswer(changed), { code: "crypto/decryption-failed" });
});

test("the offer's key is the KMS's own", async () => {
  const { offer } = await setup();
  const { public_key, k256_public_key, signature } = await offer();
  assert.equal(k256_public_key, toHex(k256PublicKey(KEYS.k256Key)));
  const message = new Uint8Array([...utf8("dstack-edge-session-key:"), ...fromHex(public_key)]);
  verifyK256(fromHex(k256_public_key), message, fromHex(signature));
});

test("evidence that is used again, late, made up or for another key is refused", async () => {
  const { begin, post, clock, rows, appraisals } = await setup();
  const refused = async (body: object) => {
    const { status, body: problem } = await post(body);
    assert.deepEqual([status, problem.reason], [403, "report-data-mismatch"]);
  };
  const used = await begin();
  assert.equal((await post(used.body)).status, 200);
  await refused(used.body);
  const late = await begin();
  clock.now = new Date(NOW.getTime() + 120_001);
  await refused(late.body);
  clock.now = NOW;
  await refused((await begin({ nonce: "ab".repeat(32) })).body);
  await refused((await begin({ boundTo: new Uint8Array(32).fill(1) })).body);
  assert.equal(appraisals.length, 1, "none of them was appraised");
  assert.equal(rows.filter(({ reason }) => reason === "report-data-mismatch").length, 4);
});

test("a request that is not sealed to this KMS, or does not fit, is refused", async () => {
  const { begin, post } = await setup();
  const { body } = await begin();
  const swapped = (await begin()).body;
  assert.equal((await post({ ...body, request: swapped.request })).status, 400);
  assert.equal((await post({ ...body, encapsulated: "00".repeat(32) })).status, 400);
  for (const request of ["{", "[]", '{"x":1}', '{"vm_config":"","vm_config":""}']) {
    assert.equal((await post((await begin({ request })).body)).status, 400, request);
  }
  for (const change of [{ nonce: "AB".repeat(32) }, { attestation: "0" }, { extra: 1 }]) {
    assert.equal((await post({ ...body, ...change })).status, 400, JSON.stringify(change));
  }
});

test("a denied caller learns the rule, in the clear, and gets nothing", async () => {
  const { begin, post, answers } = await setup();
  answers.boot = () => ({ isAllowed: false, gatewayAppId: "", reason: "app not registered" });
  const { status, body } = await post((await begin()).body);
  assert.deepEqual([status, body.reason, body.answer], [403, "auth/app-not-registered", undefined]);
});
