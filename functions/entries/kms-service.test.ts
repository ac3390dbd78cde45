import assert from "node:assert/strict";
import { mkdtemp, readFile, rm, stat, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { serveHttp } from "#adapters/http-server.ts";
import type { Listening } from "#adapters/listening.ts";
import { makeTlsFetch } from "#adapters/tls-fetch.ts";
import type { Attestation } from "#core/attestation/attestation.ts";
import { ratlsReportData } from "#core/attestation/report-data.ts";
import { encodeAttestation, stripAttestation } from "#core/attestation/versioned-attestation.ts";
import { toHex } from "#core/bytes/bytes.ts";
import { encodeP256Pkcs8, p256Spki, parseP256Pkcs8, randomP256Scalar } from "#core/crypto/p256.ts";
import { decodeOnePem } from "#core/encoding/pem.ts";
import { AppError } from "#core/errors/app-error.ts";
import { noMetrics } from "#core/http/metrics.ts";
import { buildCertificate } from "#core/ra-tls/certificate-builder.ts";
import {
  certificatePem,
  parseCertificate,
  parseCertificatePem,
  parseChainPem,
  privateKeyPem,
} from "#core/ra-tls/certificate.ts";
import { verifyKmsChain } from "#core/ra-tls/chain.ts";
import { encodeCsr, signCsr } from "#core/ra-tls/csr.ts";
import { KMS } from "#core/rpc/gen/kms_pb.ts";
import { prpcClient } from "#core/rpc/client.ts";
import { createAuthApp } from "#functions/auth/app.ts";
import type { KmsDecision } from "#functions/db/kms-decisions.ts";
import { kmsConfigSchema } from "#functions/kms/config.ts";
import { simulatedCvm, type SimulatedCvmSpec } from "../../tests/simulated-cvm.ts";
import { type KmsService, startKms } from "./kms-service.ts";

const GATEWAY = "99".repeat(20);
const cvm = simulatedCvm();

let directory: string;
let pccs: Listening;
let auth: Listening;
let kms: KmsService;
const decisions: KmsDecision[] = [];
const errors: unknown[] = [];
const pccsRequests: string[] = [];

const allowlistPath = () => join(directory, "allowlist.json");

async function allow(composeHash: Uint8Array, osImageHash = cvm.osImageHash): Promise<void> {
  await writeFile(
    allowlistPath(),
    JSON.stringify({
      gatewayAppId: GATEWAY,
      osImages: [toHex(osImageHash)],
      apps: { [toHex(cvm.appId)]: { composeHashes: [toHex(composeHash)] } },
    }),
  );
}

function configOf(changes: Record<string, unknown> = {}) {
  return kmsConfigSchema.parse({
    rpc: { address: "127.0.0.1", port: 0 },
    core: {
      cert_dir: join(directory, "certs"),
      database: join(directory, "kms.db"),
      enforce_self_authorization: false,
      attest_rpc_cert: false,
      attestation: {
        insecure_allow_external_trust_anchors: true,
        root_ca: { tdx: join(directory, "root.pem") },
        urls: { pccs: `http://127.0.0.1:${pccs.port}` },
      },
      auth_api: { webhook: { url: `http://127.0.0.1:${auth.port}`, timeout: "2s" } },
      admin: { enabled: true, address: "127.0.0.1", port: 0, auth_token: "operator" },
      onboard: { auto_bootstrap_domain: "127.0.0.1" },
      ...changes,
    },
  });
}

function start(changes: Record<string, unknown> = {}): Promise<KmsService> {
  return startKms(configOf(changes), {
    version: { version: "0.1.0", rev: "unknown" },
    metrics: noMetrics,
    agentSockets: [],
    log: {
      decision: (row) => decisions.push(row),
      error: (_, error) => errors.push(error),
      info: () => {},
    },
  });
}

before(async () => {
  directory = await mkdtemp(join(tmpdir(), "kms-service-"));
  await writeFile(join(directory, "root.pem"), cvm.platform.rootCertificatePem);
  pccs = await serveHttp((request) => {
    const { pathname, search } = new URL(request.url);
    pccsRequests.push(pathname);
    const reply = cvm.platform.pccs(pathname, search.slice(1), new Date());
    if (reply === undefined) return new Response(null, { status: 404 });
    return new Response(reply.body.slice(), { status: reply.status, headers: reply.headers });
  }, { host: "127.0.0.1", port: 0 });
  const authApp = createAuthApp({
    readAllowlist: () => readFile(allowlistPath(), "utf8"),
    logDecision: () => {},
    logError: () => {},
    metrics: noMetrics,
    version: { version: "0.1.0", rev: "unknown" },
  });
  auth = await serveHttp(authApp.fetch, { host: "127.0.0.1", port: 0 });
  await allow(cvm.composeHash);
  kms = await start();
});

after(async () => {
  await kms.close();
  await Promise.all([pccs.close(), auth.close()]);
  await rm(directory, { recursive: true });
});

const baseUrl = (service = kms) => `https://127.0.0.1:${service.port}/prpc`;

/** GetTempCaCert as a guest calls it: it knows nobody yet. */
async function tempCa(service = kms) {
  const fetch = makeTlsFetch({ verify: "none", checkHostname: false });
  return await prpcClient(KMS, { baseUrl: baseUrl(service), fetch }).getTempCaCert();
}

interface GuestOptions {
  readonly spec?: SimulatedCvmSpec;
  /** What a host may do to the evidence of a CVM bound to this key. */
  readonly tamper?: (attestation: Attestation) => Attestation;
  readonly bare?: boolean;
  readonly service?: KmsService;
}

/** A guest that asks for its keys with evidence in its client certificate. */
async function guest({ spec, tamper = (a) => a, bare, service }: GuestOptions = {}) {
  const { tempCaCert, tempCaKey, caCert } = await tempCa(service);
  const key = randomP256Scalar();
  const publicKey = p256Spki(key);
  const made = simulatedCvm({ stage: "boot", reportData: ratlsReportData(publicKey), ...spec });
  const attestation = tamper(made.attestation);
  const certificate = buildCertificate({
    subject: { commonName: "RA-TLS TEMP Cert" },
    publicKey,
    issuer: {
      name: parseCertificatePem(tempCaCert).subject,
      key: parseP256Pkcs8(decodeOnePem("PRIVATE KEY", tempCaKey)),
    },
    notAfter: new Date(Date.now() + 3_600_000),
    attestation: bare ? undefined : encodeAttestation(stripAttestation(attestation)),
  });
  const fetch = makeTlsFetch({
    verify: "ca",
    checkHostname: true,
    caPem: caCert,
    certPem: certificatePem(certificate),
    keyPem: privateKeyPem(encodeP256Pkcs8(key)),
    onPeerCertificate: (der) => {
      const claims = verifyKmsChain(
        [parseCertificate(der)],
        parseCertificatePem(caCert),
        new Date(),
      );
      assert.equal(claims.specialUsage, "kms:rpc");
    },
  });
  return prpcClient(KMS, { baseUrl: baseUrl(service), fetch });
}

async function refusal(call: Promise<unknown>): Promise<{ reason: unknown; message: string }> {
  try {
    await call;
  } catch (error) {
    if (!(error instanceof AppError)) throw error;
    return { reason: error.fields["remoteReason"], message: error.message };
  }
  throw new assert.AssertionError({ message: "The call was not refused" });
}

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
  const row = decisions.at(-1)!;
  assert.equal(row.outcome, "released");
  assert.equal(row.simulated, true);
  assert.match(row.trustAnchor, /^external tdx root [0-9a-f]{16}$/);
  assert.equal(row.appId, toHex(cvm.appId));
  assert.equal(row.instanceId, toHex(cvm.instanceId));
  assert.equal(row.tcbStatus, "UpToDate");
});

test("collateral is fetched once for a platform", async () => {
  await (await guest()).getAppKey({});
  const fetched = pccsRequests.length;
  await (await guest()).getAppKey({});
  assert.equal(pccsRequests.length, fetched);
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
  const fetch = makeTlsFetch({ verify: "none", checkHostname: false });
  const anonymous = prpcClient(KMS, { baseUrl: baseUrl(), fetch });
  assert.equal((await refusal(anonymous.getAppKey({}))).message, "No attestation provided");
  assert.equal(decisions.at(-1)!.reason, "attestation/missing");
});

test("an oversized body is refused and the server goes on", async () => {
  const fetch = makeTlsFetch({ verify: "none", checkHostname: false });
  const upload = fetch(`${baseUrl()}/SignCert?json`, {
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
  assert.equal((await tempCa()).tempCaKey.length > 0, true);
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
  const fetch = makeTlsFetch({ verify: "none", checkHostname: false });
  const client = prpcClient(KMS, { baseUrl: baseUrl(), fetch });
  const signed = await client.signCert(request(running({ name: "kms", id }).attestation));
  const chain = parseChainPem(signed.certificateChain.join(""));
  const claims = verifyKmsChain(chain, kms.identity.rootCa, new Date());
  assert.deepEqual(claims.appId, cvm.appId);
  assert.deepEqual(claims.appInfo?.composeHash, cvm.composeHash);
  assert.equal(
    toHex(claims.appInfo!.deviceId),
    "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
  );
  const booted = decisions.at(-1)!;
  const release = decisions.find(({ method, outcome }) =>
    method === "GetAppKey" && outcome === "released"
  )!;
  assert.equal(booted.mrAggregated, release.mrAggregated, "as measured when it got its keys");
  const foreign = running({ name: "kms", id: "3059" }).attestation;
  assert.equal((await refusal(client.signCert(request(foreign)))).reason, "key-provider-mismatch");
});

test("an auth service that is down denies", async () => {
  const alone = await start({
    cert_dir: join(directory, "certs"),
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
  const alone = await start({
    attestation: {
      insecure_allow_external_trust_anchors: true,
      root_ca: { tdx: join(directory, "root.pem") },
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
  const again = await start();
  try {
    const keysAfter = await (await guest({ service: again })).getAppKey({});
    assert.deepEqual(keysAfter.diskCryptKey, keysBefore.diskCryptKey);
    assert.deepEqual(again.identity.rootCa.der, kms.identity.rootCa.der);
  } finally {
    await again.close();
  }
  for (const name of ["root-ca.key", "root-k256.key", "rpc.key", "tmp-ca.key"]) {
    assert.equal((await stat(join(directory, "certs", name))).mode & 0o777, 0o600, name);
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
  const logged = decisions.filter(({ outcome }) => outcome === "denied").map(({ id }) => id);
  const stored = listed.map(({ id }: { id: number }) => id);
  assert.deepEqual(stored.toSorted(), logged.toSorted());
  assert.ok(errors.length > 0, "the auth API's failure was logged");
});
