import assert from "node:assert/strict";
import { test } from "node:test";
import { AppError } from "../errors/app-error.ts";
import type { FetchLike } from "../http/fetch-like.ts";
import { prpcClient } from "./client.ts";
import { GatewayAdmin } from "./gen/gateway_pb.ts";
import { KMS } from "./gen/kms_pb.ts";

const answering = (body: string, init?: ResponseInit): FetchLike => () =>
  Promise.resolve(new Response(body, init));
const kms = (fetch: FetchLike) => prpcClient(KMS, { baseUrl: "https://kms.test/prpc/", fetch });

test("a call posts JSON to <base>/<Method>?json", async () => {
  const seen: unknown[] = [];
  const client = prpcClient(KMS, {
    baseUrl: "https://kms.test/prpc",
    headers: { authorization: "Bearer t" },
    fetch: (url, { method, headers, body }) => {
      seen.push({ url, method, headers, body });
      return Promise.resolve(new Response('{"public_key":"0a","timestamp":7}'));
    },
  });
  const response = await client.getAppEnvEncryptPubKey({ appId: Uint8Array.of(1, 2) });
  assert.deepEqual(response.publicKey, Uint8Array.of(10));
  assert.equal(response.timestamp, 7n);
  assert.deepEqual(seen, [{
    url: "https://kms.test/prpc/GetAppEnvEncryptPubKey?json",
    method: "POST",
    headers: { authorization: "Bearer t", "content-type": "application/json" },
    body: '{"app_id":"0102"}',
  }]);
});

test("Empty is sent as null and read from null, an object or nothing", async () => {
  for (const body of ["null", "{}", ""]) {
    let sent: unknown;
    const client = prpcClient(GatewayAdmin, {
      baseUrl: "http://gateway.test",
      fetch: (_url, init) => {
        sent = init.body;
        return Promise.resolve(new Response(body));
      },
    });
    await client.setCaa();
    assert.equal(sent, "null");
  }
});

test("a refusal carries the remote text, code and reason", async () => {
  const refusing = answering('{\n  "error": "Boot denied: not listed"\n}', {
    status: 400,
    headers: { "x-error-code": "auth/forbidden", "x-error-reason": "compose-not-allowed" },
  });
  await assert.rejects(kms(refusing).getAppKey(), {
    code: "upstream/refused",
    message: "Boot denied: not listed",
    fields: {
      method: "KMS.GetAppKey",
      remoteCode: "auth/forbidden",
      remoteReason: "compose-not-allowed",
    },
  });
});

test("what is no pRPC answer is named by its status", async () => {
  await assert.rejects(kms(answering("<html>", { status: 502 })).getMeta(), {
    code: "upstream/unavailable",
    message: "KMS.GetMeta answered HTTP 502",
  });
  await assert.rejects(kms(answering("null", { status: 404 })).getMeta(), {
    code: "upstream/invalid",
  });
  await assert.rejects(kms(answering("<html>")).getMeta(), { code: "upstream/invalid" });
});

test("a connection that fails is upstream/unavailable; an AppError passes", async () => {
  await assert.rejects(kms(() => Promise.reject(new TypeError("ECONNREFUSED"))).getMeta(), {
    code: "upstream/unavailable",
    message: "Cannot call KMS.GetMeta at kms.test",
  });
  const untrusted = new AppError("upstream/untrusted", "Certificate without attestation");
  await assert.rejects(kms(() => Promise.reject(untrusted)).getMeta(), untrusted);
});

test("an answer beyond the limit is refused", async () => {
  const client = prpcClient(KMS, {
    baseUrl: "http://kms.test",
    fetch: answering('{"ca_cert":"xxxxxxxxxxxxxxx"}'),
    maxResponseBytes: 16,
  });
  await assert.rejects(client.getMeta(), {
    code: "upstream/invalid",
    message: "KMS.GetMeta answered more than 16 bytes",
  });
});
