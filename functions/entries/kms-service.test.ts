import assert from "node:assert/strict";
import { stat } from "node:fs/promises";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { createClient } from "@libsql/client";
import { createPrometheusMetrics } from "#adapters/metrics.ts";
import { makeTlsFetch } from "#adapters/tls-fetch.ts";
import type { Attestation } from "#core/attestation/attestation.ts";
import { ratlsReportData } from "#core/attestation/report-data.ts";
import { encodeAttestation } from "#core/attestation/versioned-attestation.ts";
import { fromHex, toHex } from "#core/bytes/bytes.ts";
import { k256PublicKey } from "#core/crypto/k256.ts";
import { verifyInclusion } from "#core/crypto/merkle-tree.ts";
import { p256Spki, randomP256Scalar } from "#core/crypto/p256.ts";
import { verifyTreeHead } from "#core/crypto/tree-head.ts";
import { AppError } from "#core/errors/app-error.ts";
import { parseCertificatePem, parseChainPem } from "#core/ra-tls/certificate.ts";
import { verifyKmsChain } from "#core/ra-tls/chain.ts";
import { encodeCsr, signCsr } from "#core/ra-tls/csr.ts";
import { decisionLeafHash, decisionToJson } from "#functions/db/kms-decisions.ts";
import { verdictOf } from "#functions/kms/fakes.ts";
import { kmsMetrics } from "#functions/kms/metrics.ts";
import { simulatedCvm } from "../../tests/simulated-cvm.ts";
import type { KmsService } from "./kms-service.ts";
import {
  baseUrl,
  guest as guestOf,
  type GuestOptions,
  refusal,
  startSurroundings,
  stranger,
} from "./kms-stack.fixture.ts";

const GATEWAY = "99".repeat(20);
const cvm = simulatedCvm();

let around: Awaited<ReturnType<typeof startSurroundings>>;
let kms: KmsService;

const guest = (options?: GuestOptions & { service?: KmsService }) =>
  guestOf(options?.service ?? kms, options);

function allow(composeHash: Uint8Array, osImageHash = cvm.osImageHash): Promise<void> {
  return around.allow({
    gatewayAppId: GATEWAY,
    osImages: [toHex(osImageHash)],
    apps: { [toHex(cvm.appId)]: { composeHashes: [toHex(composeHash)] } },
  });
}

before(async () => {
  around = await startSurroundings();
  await allow(cvm.composeHash);
  kms = await around.start();
});

after(async () => {
  await kms.close();
  await around.close();
});

test("an attested app gets the same keys twice, and each release is recorded", async () => {
  const first = await (await guest()).getAppKey({ apiVersion: 1 });
  const second = await (await guest()).getAppKey({ apiVersion: 1 });
  for (const field of ["diskCryptKey", "envCryptKey", "k256Key"] as const) {
    assert.equal(first[field].length, 32);
    assert.deepEqual(first[field], second[field], field);
  }
  assert.deepEqual(first.k256Signature, second.k256Signature);
  assert.equal(first.gatewayAppId, GATEWAY);
  assert.deepEqual(first.osImageHash, cvm.osImageHash);
  assert.equal(parseCertificatePem(first.caCert).commonName, "Dstack KMS CA");
  const row = around.decisions.at(-1)!;
  assert.equal(row.outcome, "released");
  assert.equal(row.simulated, true);
  assert.match(row.trustAnchor, /^external tdx root [0-9a-f]{16}$/);
  assert.equal(row.appId, toHex(cvm.appId));
  assert.equal(row.instanceId, toHex(cvm.instanceId));
  assert.equal(row.tcbStatus, "UpToDate");
});

test("collateral is fetched once for a platform", async () => {
  await (await guest()).getAppKey({});
  const fetched = around.pccsRequests.length;
  await (await guest()).getAppKey({});
  assert.equal(around.pccsRequests.length, fetched);
});

test("other instances share the environment key, not the disk key", async () => {
  const one = await (await guest()).getAppKey({});
  const two = await (await guest({ spec: { instanceId: new Uint8Array(20).fill(7) } })).getAppKey(
    {},
  );
  assert.deepEqual(one.envCryptKey, two.envCryptKey);
  assert.notDeepEqual(one.diskCryptKey, two.diskCryptKey);
});

test("a compose the allowlist does not name gets nothing", async () => {
  const appId = cvm.appId;
  const composeHash = new Uint8Array(32).fill(5);
  const caller = await guest({ spec: { composeHash, appId } });
  assert.deepEqual(await refusal(caller.getAppKey({})), {
    reason: "auth/compose-hash-not-allowed",
    message: "App not allowed: Boot denied: compose hash not allowed",
  });
  const unknown = await guest({ spec: { composeHash } });
  assert.equal((await refusal(unknown.getAppKey({}))).reason, "auth/app-not-registered");
});

test("an image the allowlist does not name gets nothing, until it does", async () => {
  await allow(cvm.composeHash, new Uint8Array(32));
  const caller = await guest();
  assert.equal((await refusal(caller.getAppKey({}))).reason, "auth/os-image-not-allowed");
  await allow(cvm.composeHash);
  assert.equal((await (await guest()).getAppKey({})).diskCryptKey.length, 32);
});

test("the evidence of another VM is refused, as it was and with its claim rewritten", async () => {
  const other = ratlsReportData(p256Spki(randomP256Scalar()));
  const replayed = await guest({ spec: { reportData: other } });
  assert.deepEqual(await refusal(replayed.getAppKey({})), {
    reason: "report-data-mismatch",
    message: "invalid quote: report data mismatch",
  });
  let bound: Uint8Array | undefined;
  const rewritten = await guest({
    tamper: (attestation) => {
      bound = attestation.stack.reportData;
      const { platform } = simulatedCvm({ stage: "boot", reportData: other }).attestation;
      return { ...attestation, platform };
    },
  });
  assert.ok(bound);
  assert.equal((await refusal(rewritten.getAppKey({}))).reason, "report-data-mismatch");
});

test("a changed event log is refused", async () => {
  const caller = await guest({
    tamper: ({ platform, stack }) => ({
      platform,
      stack: {
        ...stack,
        runtimeEvents: stack.runtimeEvents.map((event) =>
          event.event === "app-id" ? { ...event, payload: new Uint8Array(20).fill(9) } : event
        ),
      },
    }),
  });
  const { reason, message } = await refusal(caller.getAppKey({}));
  assert.equal(reason, "event-log-mismatch");
  assert.match(message, /^App not allowed: Quote verification failed: /);
});

test("a configuration of another image or VM shape is refused", async () => {
  const changes: [Record<string, unknown>, string][] = [
    [{ os_image_hash: "00".repeat(32) }, "os-image-document-mismatch"],
    [{ memory_size: 8 * 2 ** 30 }, "os-image-register-mismatch"],
    [{ tdx_attestation_variant: "legacy" }, "os-image-unknown"],
    [{ os_image_hash: "" }, "os-image-unknown"],
  ];
  for (const [config, expected] of changes) {
    const { reason, message } = await refusal((await guest({ spec: { config } })).getAppKey({}));
    assert.equal(reason, expected);
    assert.match(message, /^App not allowed: Failed to verify os image hash: /);
  }
  const honest = await guest();
  const vmConfig = JSON.stringify({ os_image_hash: "00".repeat(32) });
  assert.equal((await refusal(honest.getAppKey({ vmConfig }))).reason, "os-image-unknown");
});

test("a quote under another root is refused", async () => {
  const caller = await guest({ spec: { seed: 2 } });
  assert.equal((await refusal(caller.getAppKey({}))).reason, "certificate-untrusted");
});

test("a client without evidence gets nothing", async () => {
  const bare = await refusal((await guest({ bare: true })).getAppKey({}));
  assert.equal(bare.message, "No attestation provided");
  assert.equal((await refusal(stranger(kms).getAppKey({}))).message, "No attestation provided");
  assert.equal(around.decisions.at(-1)!.reason, "attestation/missing");
});

test("an oversized body is refused and the server goes on", async () => {
  const fetch = makeTlsFetch({ verify: "none", checkHostname: false });
  const upload = fetch(`${baseUrl(kms)}/SignCert?json`, {
    method: "POST",
    headers: {},
    body: new Uint8Array(10 * 1024 * 1024 + 1),
  });
  try {
    const response = await upload;
    assert.equal(response.status, 400);
    assert.match((await response.json()).error, /payload too large/);
  } catch (error) {
    // The server does not wait for the rest: a client that still writes may find the line cut.
    assert.ok(error instanceof AppError && error.code === "upstream/unavailable");
  }
  assert.equal((await stranger(kms).getTempCaCert()).caCert, kms.identity.rootCaPem);
});

test("a root KMS key goes to no app", async () => {
  const { reason } = await refusal((await guest()).getKmsKey({}));
  assert.equal(reason, "auth/mr-aggregated-not-allowed");
});

test("an attested app gets a certificate, judged by what booted", async () => {
  const key = randomP256Scalar();
  const publicKey = p256Spki(key);
  const id = toHex(kms.identity.rootCa.publicKey);
  const running = (keyProvider: { name: string; id: string }) =>
    simulatedCvm({ reportData: ratlsReportData(publicKey), keyProvider });
  const request = (attestation: Attestation) => {
    const csr = encodeCsr(publicKey, {
      subject: "hello",
      altNames: ["hello.test"],
      serverAuth: true,
      clientAuth: false,
      includeAttestation: true,
      includeAppInfo: true,
    }, encodeAttestation(attestation));
    return { apiVersion: 2, csr, signature: signCsr(csr, key) };
  };
  const client = stranger(kms);
  const signed = await client.signCert(request(running({ name: "kms", id }).attestation));
  const chain = parseChainPem(signed.certificateChain.join(""));
  const claims = verifyKmsChain(chain, kms.identity.rootCa, new Date());
  assert.deepEqual(claims.appId, cvm.appId);
  assert.deepEqual(claims.appInfo?.composeHash, cvm.composeHash);
  assert.equal(
    toHex(claims.appInfo!.deviceId),
    "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
  );
  const booted = around.decisions.at(-1)!;
  const release = around.decisions.find(({ method, outcome }) =>
    method === "GetAppKey" && outcome === "released"
  )!;
  assert.equal(booted.mrAggregated, release.mrAggregated, "as measured when it got its keys");
  const foreign = running({ name: "kms", id: "3059" }).attestation;
  assert.equal((await refusal(client.signCert(request(foreign)))).reason, "key-provider-mismatch");
});

test("an auth service that is down denies", async () => {
  const alone = await around.start({
    auth_api: { webhook: { url: "http://127.0.0.1:9", timeout: "1s" } },
  });
  try {
    const { reason, message } = await refusal((await guest({ service: alone })).getAppKey({}));
    assert.equal(reason, "auth/unavailable");
    assert.match(message, /^App not allowed: Boot denied/);
  } finally {
    await alone.close();
  }
});

test("a PCCS that is down denies for its own reason", async () => {
  const alone = await around.start({
    attestation: {
      insecure_allow_external_trust_anchors: true,
      root_ca: { tdx: join(around.directory, "root.pem") },
      urls: { pccs: "http://127.0.0.1:9" },
    },
  });
  try {
    const { reason } = await refusal((await guest({ service: alone })).getAppKey({}));
    assert.equal(reason, "collateral-unavailable");
  } finally {
    await alone.close();
  }
});

test("a restart keeps the keys; the key files are for the owner only", async () => {
  const keysBefore = await (await guest()).getAppKey({});
  const again = await around.start();
  try {
    const keysAfter = await (await guest({ service: again })).getAppKey({});
    assert.deepEqual(keysAfter.diskCryptKey, keysBefore.diskCryptKey);
    assert.deepEqual(again.identity.rootCa.der, kms.identity.rootCa.der);
  } finally {
    await again.close();
  }
  for (const name of ["root-ca.key", "root-k256.key", "rpc.key", "tmp-ca.key"]) {
    assert.equal((await stat(join(around.directory, "certs", name))).mode & 0o777, 0o600, name);
  }
});

test("the operator lists decisions with the token only", async () => {
  const url = `http://127.0.0.1:${kms.adminPort}/v1/decisions`;
  const anonymous = await fetch(url);
  await anonymous.body?.cancel();
  assert.equal(anonymous.status, 401);
  const headers = { "x-admin-token": "operator" };
  const response = await fetch(`${url}?outcome=denied&limit=500`, { headers });
  const { decisions: listed } = await response.json();
  const reasons = new Set(listed.map(({ reason }: { reason: string }) => reason));
  for (
    const reason of [
      "auth/compose-hash-not-allowed",
      "auth/app-not-registered",
      "report-data-mismatch",
      "event-log-mismatch",
      "os-image-register-mismatch",
      "certificate-untrusted",
      "attestation/missing",
      "auth/unavailable",
      "collateral-unavailable",
    ]
  ) assert.ok(reasons.has(reason), reason);
  const logged = around.decisions.filter(({ outcome }) => outcome === "denied").map(({ id }) => id);
  const stored = listed.map(({ id }: { id: number }) => id);
  assert.deepEqual(stored.toSorted(), logged.toSorted());
  assert.ok(around.errors.length > 0, "the auth API's failure was logged");
});

test("metrics tell decisions, TCB status, collateral, epoch and log size, and name no app", async () => {
  const metrics = createPrometheusMetrics();
  const counted = kmsMetrics(metrics);
  await (await guest()).getAppKey({});
  counted.decision({ ...around.decisions.at(-1)!, blockNumber: 7 });
  counted.verdict(verdictOf(), Date.parse("2026-01-02T00:00:00Z"));
  counted.epoch(3);
  const text = await metrics.text();
  for (
    const line of [
      'dstack_kms_decisions_total{method="GetAppKey",outcome="released",reason=""} 1',
      'dstack_kms_tcb_status_total{status="UpToDate",outcome="accepted"} 1',
      "dstack_kms_collateral_age_seconds 86400",
      `dstack_kms_log_entries ${around.decisions.at(-1)!.id}`,
      "dstack_kms_chain_block_number 7",
      "dstack_kms_epoch 3",
    ]
  ) assert.ok(text!.includes(line), line);
  assert.ok(!text!.includes(toHex(cvm.appId)));
});

test("a release is in the log's tree, and a KMS does not start on a log that was cut", async () => {
  const cert_dir = join(around.directory, "logged");
  const database = join(around.directory, "logged.db");
  const first = await around.start({ cert_dir, database });
  const fetch = makeTlsFetch({ verify: "none", checkHostname: false });
  const get = async (path: string) => {
    const response = await fetch(`https://127.0.0.1:${first.port}/v1/log/${path}`, {
      method: "GET",
      headers: {},
    });
    return { status: response.status, body: await response.json() };
  };
  try {
    await (await guest({ service: first })).getAppKey({});
    const row = around.decisions.at(-1)!;
    const { body: head } = await get("head");
    assert.equal(head.tree_size, row.id);
    verifyTreeHead(k256PublicKey(first.identity.k256Key), head);
    const { body: path } = await get(`proof/inclusion?id=${row.id}&tree_size=${head.tree_size}`);
    const leaf = decisionLeafHash(decisionToJson(row));
    assert.equal(path.leaf_hash, toHex(leaf));
    const proof = path.proof.map((hash: string) => fromHex(hash));
    verifyInclusion(leaf, row.id - 1, head.tree_size, proof, fromHex(head.root_hash));
    assert.equal((await get(`proof/inclusion?id=1&tree_size=${row.id + 1}`)).status, 400);
    assert.equal((await get(`proof/consistency?first=2&second=1`)).status, 400);
    assert.equal((await get("leaf-hashes?limit=1001")).status, 400);
  } finally {
    await first.close();
  }
  const client = createClient({ url: `file:${database}` });
  await client.execute("DELETE FROM kms_decisions WHERE id = (SELECT max(id) FROM kms_decisions)");
  client.close();
  await assert.rejects(around.start({ cert_dir, database }), {
    fields: { reason: "kms/log-damaged" },
  });
});
