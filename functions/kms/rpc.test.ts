import assert from "node:assert/strict";
import { test } from "node:test";
import { create, fromBinary, toBinary } from "@bufbuild/protobuf";
import { toHex } from "#core/bytes/bytes.ts";
import { p256Spki } from "#core/crypto/p256.ts";
import { encodeAttestation } from "#core/attestation/versioned-attestation.ts";
import { AppError } from "#core/errors/app-error.ts";
import { parseCertificatePem } from "#core/ra-tls/certificate.ts";
import { verifyKmsChain } from "#core/ra-tls/chain.ts";
import { readEvidence } from "#core/ra-tls/claims.ts";
import { type CsrConfig, encodeCsr, signCsr } from "#core/ra-tls/csr.ts";
import { AppKeyResponseSchema, GetAppKeyRequestSchema } from "#core/rpc/gen/kms_pb.ts";
import { PrpcErrorSchema } from "#core/rpc/gen/prpc_pb.ts";
import { createKmsApp } from "./app.ts";
import {
  APP_ID,
  attestationFor,
  clientCertificate,
  DEFAULT_POLICY,
  fakePorts,
  GATEWAY_APP_ID,
  NOW,
  OS_IMAGE_HASH,
  refusedVerdict,
  verdictOf,
} from "./fakes.ts";
import type { KmsPorts } from "./ports.ts";

async function setup(overrides: Partial<KmsPorts> = {}) {
  const fakes = await fakePorts(overrides);
  const app = createKmsApp(fakes.ports);
  const call = async (method: string, body: unknown = {}, peerCertificate?: Uint8Array) => {
    const response = await app.request(`/prpc/${method}?json`, {
      method: "POST",
      body: JSON.stringify(body),
    }, peerCertificate === undefined ? {} : { peerCertificate });
    return {
      status: response.status,
      // deno-lint-ignore no-explicit-any
      body: await response.json() as any,
      code: response.headers.get("x-error-code"),
      reason: response.headers.get("x-error-reason"),
    };
  };
  return { ...fakes, app, call };
}

// kms.md 11.2
const APP_KEYS = {
  disk_crypt_key: "1fef665a1667042d9d3e16305ac19dff2082d4fa6b0d27505bb9e6b7379bb58d",
  env_crypt_key: "a7470db8cfdd0fe24134b461d60766afa7c078abe6dce9f2c8a5c44034ca400e",
  k256_key: "88fa429170ad091e0f87b335ba19b1729610ac25441728807ce3325161846baf",
  k256_signature: "9ec2e6deec77b3584de4c6406034b39a4e4a04643cbf56655247774c1a15f03e" +
    "73970201967d270928b41fec3cfdbb7538adc5d4fbd328c10c6927621024f00800",
};

test("GetAppKey releases the derived keys of the attested app", async () => {
  const { call, ports, appraisals, asked, rows, logged } = await setup();
  const request = { api_version: 1, vm_config: '{"a":1}' };
  const { status, body } = await call("KMS.GetAppKey", request, clientCertificate());
  assert.equal(status, 200);
  assert.deepEqual(body, {
    ca_cert: ports.identity.rootCaPem,
    ...APP_KEYS,
    tproxy_app_id: GATEWAY_APP_ID,
    gateway_app_id: GATEWAY_APP_ID,
    os_image_hash: OS_IMAGE_HASH,
  });
  assert.equal(appraisals[0]!.vmConfig, '{"a":1}');
  assert.equal(appraisals[0]!.scope, "runtime");
  assert.equal(asked[0]!.role, "app");
  assert.deepEqual(asked[0]!.boot, {
    teeVariant: "dstack-tdx",
    mrAggregated: "88".repeat(32),
    mrSystem: "77".repeat(32),
    osImageHash: OS_IMAGE_HASH,
    appId: APP_ID,
    composeHash: "22".repeat(32),
    instanceId: "33".repeat(20),
    deviceId: "44".repeat(32),
    keyProviderInfo: "",
    tcbStatus: "UpToDate",
    advisoryIds: [],
  });
  const [row] = rows;
  assert.equal(rows.length, 1);
  assert.deepEqual(logged, rows);
  assert.equal(row!.method, "GetAppKey");
  assert.equal(row!.outcome, "released");
  assert.equal(row!.reason, "");
  assert.equal(row!.appId, APP_ID);
  assert.equal(row!.simulated, true);
  assert.equal(row!.trustAnchor, "test root");
  assert.equal(row!.evidenceDigest, "55".repeat(32));
});

test("GetAppKey speaks protobuf as well", async () => {
  const { app } = await setup();
  const request = toBinary(GetAppKeyRequestSchema, create(GetAppKeyRequestSchema));
  const ask = (peerCertificate?: Uint8Array) =>
    app.request(
      "/prpc/GetAppKey",
      { method: "POST", body: request.slice() },
      peerCertificate === undefined ? {} : { peerCertificate },
    );
  const released = await ask(clientCertificate());
  assert.equal(released.headers.get("content-type"), "application/octet-stream");
  const keys = fromBinary(AppKeyResponseSchema, new Uint8Array(await released.arrayBuffer()));
  assert.equal(toHex(keys.diskCryptKey), APP_KEYS.disk_crypt_key);
  const refused = await ask();
  assert.equal(refused.status, 400);
  const error = fromBinary(PrpcErrorSchema, new Uint8Array(await refused.arrayBuffer()));
  assert.equal(error.message, "No attestation provided");
});

test("without evidence nothing is released", async () => {
  const { call, appraisals, rows } = await setup();
  for (const peer of [undefined, clientCertificate({ bare: true })]) {
    for (const method of ["GetAppKey", "GetKmsKey"]) {
      assert.deepEqual(await call(method, {}, peer), {
        status: 400,
        body: { error: "No attestation provided" },
        code: "attestation/missing",
        reason: null,
      });
    }
  }
  assert.deepEqual(appraisals, []);
  assert.equal(rows.length, 4);
  assert.deepEqual(
    new Set(rows.map(({ outcome, reason }) => `${outcome} ${reason}`)),
    new Set([
      "denied attestation/missing",
    ]),
  );
});

test("another VM's attestation in the caller's certificate is refused before it is appraised", async () => {
  const { call, appraisals, rows } = await setup();
  const peer = clientCertificate({ bindTo: p256Spki(new Uint8Array(32).fill(5)) });
  assert.deepEqual(await call("GetAppKey", {}, peer), {
    status: 400,
    body: { error: "invalid quote: report data mismatch" },
    code: "kms/denied",
    reason: "report-data-mismatch",
  });
  assert.deepEqual(appraisals, []);
  assert.equal(rows[0]!.reason, "report-data-mismatch");
});

test("refused evidence is refused with the verdict's reason, and the auth API is not asked", async () => {
  const { call, answers, asked, rows } = await setup();
  answers.verdict = () => refusedVerdict("event-log-mismatch", "RTMR3 does not replay");
  assert.deepEqual(await call("GetAppKey", {}, clientCertificate()), {
    status: 400,
    body: { error: "App not allowed: Quote verification failed: RTMR3 does not replay" },
    code: "kms/denied",
    reason: "event-log-mismatch",
  });
  answers.verdict = () => refusedVerdict("os-image-register-mismatch", "MRTD is not the image's");
  assert.deepEqual(await call("GetAppKey", {}, clientCertificate()), {
    status: 400,
    body: { error: "App not allowed: Failed to verify os image hash: MRTD is not the image's" },
    code: "kms/denied",
    reason: "os-image-register-mismatch",
  });
  assert.deepEqual(asked, []);
  assert.deepEqual(rows.map(({ reason, appId }) => [reason, appId]), [
    ["event-log-mismatch", APP_ID],
    ["os-image-register-mismatch", APP_ID],
  ]);
});

test("a denial of the auth API carries the reference's words and a stable code", async () => {
  const { call, answers, rows } = await setup();
  const cases = {
    "compose hash not allowed": "auth/compose-hash-not-allowed",
    "Compose hash not allowed": "auth/compose-hash-not-allowed",
    "app not registered": "auth/app-not-registered",
    "OS image is not allowed": "auth/os-image-not-allowed",
    "TCB status is not allowed": "auth/tcb-status-not-allowed",
    "authorization backend unavailable": "auth/unavailable",
    "Tuesday": "auth/denied",
    "constructor": "auth/denied",
  };
  for (const [reason, code] of Object.entries(cases)) {
    answers.boot = () => ({ isAllowed: false, gatewayAppId: "", reason });
    assert.deepEqual(await call("GetAppKey", {}, clientCertificate()), {
      status: 400,
      body: { error: `App not allowed: Boot denied: ${reason}` },
      code: code === "auth/unavailable" ? "kms/not-ready" : "kms/denied",
      reason: code,
    });
    assert.equal(rows.at(-1)!.reason, code);
  }
});

test("an auth API that fails denies, and recovers", async () => {
  const { call, answers, rows } = await setup();
  answers.boot = () => {
    throw new AppError("upstream/unavailable", "auth api is unavailable");
  };
  assert.deepEqual(await call("GetAppKey", {}, clientCertificate()), {
    status: 400,
    body: { error: "App not allowed: Boot denied: auth api is unavailable" },
    code: "kms/not-ready",
    reason: "auth/unavailable",
  });
  answers.boot = () => {
    throw new AppError("upstream/invalid", "failed to decode response from auth api");
  };
  assert.equal((await call("GetAppKey", {}, clientCertificate())).reason, "auth/invalid-answer");
  answers.boot = () => ({ isAllowed: true, gatewayAppId: "any", reason: "" });
  assert.equal((await call("GetAppKey", {}, clientCertificate())).status, 200);
  assert.deepEqual(rows.map(({ outcome }) => outcome), ["denied", "denied", "released"]);
});

test("missing collateral is told apart from refused evidence", async () => {
  const { call, answers } = await setup();
  answers.verdict = () => {
    throw new AppError("upstream/unavailable", "The PCCS cannot be reached");
  };
  assert.deepEqual(await call("GetAppKey", {}, clientCertificate()), {
    status: 400,
    body: { error: "App not allowed: Quote verification failed: The PCCS cannot be reached" },
    code: "kms/not-ready",
    reason: "collateral-unavailable",
  });
});

test("nothing is released when the decision cannot be stored", async () => {
  const { ports } = await fakePorts();
  const { call, logged, errors } = await setup({
    decisions: { ...ports.decisions, append: () => Promise.reject(new Error("disk full")) },
  });
  assert.deepEqual(await call("GetAppKey", {}, clientCertificate()), {
    status: 400,
    body: { error: "The decision cannot be recorded" },
    code: "kms/not-ready",
    reason: "kms/decision-log-unavailable",
  });
  assert.equal((await call("GetAppKey")).body.error, "No attestation provided");
  assert.equal(logged.length, 1);
  assert.equal(errors.length, 2);
});

test("an unexpected failure shows nothing of itself and may be tried again", async () => {
  const { call, answers, rows, errors } = await setup();
  answers.verdict = () => {
    throw new Error("secret detail");
  };
  assert.deepEqual(await call("GetAppKey", {}, clientCertificate()), {
    status: 400,
    body: { error: "Unexpected failure" },
    code: "internal",
    reason: null,
  });
  assert.deepEqual([rows[0]!.reason, rows[0]!.detail], ["internal", "Unexpected failure"]);
  assert.equal(errors.length, 1);
});

test("TEEs behind a gate get keys only where it is open", async () => {
  for (
    const [tee, flag, message, code] of [
      [
        "dstack-amd-sev-snp",
        "sevSnpKeyRelease",
        "amd sev-snp key release is not enabled",
        "gate/sev-snp-disabled",
      ],
      [
        "dstack-aws-nitro-tpm",
        "awsNitroTpmKeyRelease",
        "aws nitro-tpm key release is not enabled",
        "gate/aws-nitro-tpm-disabled",
      ],
    ] as const
  ) {
    const closed = await setup();
    closed.answers.verdict = () => verdictOf({ tee });
    assert.deepEqual(await closed.call("GetKmsKey", {}, clientCertificate()), {
      status: 400,
      body: { error: message },
      code: "kms/denied",
      reason: code,
    });
    const open = await setup({ policy: { ...DEFAULT_POLICY, [flag]: true } });
    open.answers.verdict = () => verdictOf({ tee });
    assert.equal((await open.call("GetKmsKey", {}, clientCertificate())).status, 200);
  }
});

test("api_version 2 is unknown to GetAppKey", async () => {
  const { call } = await setup();
  const { body } = await call("GetAppKey", { api_version: 2 }, clientCertificate());
  assert.equal(body.error, "Unsupported API version: 2");
});

test("an app id of another length is refused, whatever the verdict says", async () => {
  const { call, answers } = await setup();
  const { identity } = verdictOf();
  for (const changed of [{ appId: "" }, { appId: "11".repeat(32) }, { instanceId: "33" }]) {
    answers.verdict = () => verdictOf({ identity: { ...identity!, ...changed } });
    assert.equal((await call("GetAppKey", {}, clientCertificate())).status, 400);
  }
});

test("GetKmsKey hands the root keys to an allowed KMS", async () => {
  const { call, answers, asked } = await setup();
  const { body } = await call("GetKmsKey", {}, clientCertificate());
  assert.equal(asked[0]!.role, "kms");
  assert.equal(body.keys.length, 1);
  assert.equal(body.keys[0].k256_key, "01".repeat(32));
  assert.match(body.keys[0].ca_key, /^-----BEGIN PRIVATE KEY-----/);
  assert.match(body.temp_ca_key, /^-----BEGIN PRIVATE KEY-----/);
  assert.notEqual(body.keys[0].ca_key, body.temp_ca_key);
  answers.boot = () => ({
    isAllowed: false,
    gatewayAppId: "",
    reason: "aggregated MR not allowed",
  });
  assert.deepEqual(await call("GetKmsKey", {}, clientCertificate()), {
    status: 400,
    body: { error: "Boot denied: aggregated MR not allowed" },
    code: "kms/denied",
    reason: "auth/mr-aggregated-not-allowed",
  });
});

test("GetAppEnvEncryptPubKey signs the key in both forms", async () => {
  const { call } = await setup({ now: () => new Date(1_700_000_000_000) });
  assert.deepEqual((await call("GetAppEnvEncryptPubKey", { app_id: APP_ID })).body, {
    public_key: "93cf259f68b24775d54290a8ea57cf93efc994d3ff28a7b8ba7a39e9f512302f",
    signature: "379d578bd258c13f31a3dabd5ab9ce3cafbeed5f3d2f73d57aa5ae45e2a0bb1a" +
      "335e80e2b0db9b2e9a88ee451cb64c82c1204b3787868d571fc3d092cec9f53501",
    timestamp: 1_700_000_000,
    signature_v1: "c0989e470967189e59d7b26238eadbda93b8591d6dd935d2457c16aaf8c8e6e3" +
      "7e73fba76f6211e04294ec61bc85cb788c793c745e179bff9e05b9d6d09ac1da00",
  });
  const short = await call("GetAppEnvEncryptPubKey", { app_id: "11" });
  assert.deepEqual([short.status, short.body.error], [400, "app_id must be 20 bytes"]);
});

test("GetMeta shows the root, the backend and the bootstrap", async () => {
  const { call, ports } = await setup({
    bootstrapInfo: () =>
      Promise.resolve({
        caPublicKey: Uint8Array.of(1),
        k256PublicKey: Uint8Array.of(2),
        attestation: Uint8Array.of(3),
      }),
  });
  assert.deepEqual((await call("GetMeta")).body, {
    ca_cert: ports.identity.rootCaPem,
    allow_any_upgrade: false,
    k256_pubkey: "031b84c5567b126440995d3ed5aaba0565d71e1834604819ff9c17f5e9d5dd078f",
    bootstrap_info: { ca_pubkey: "01", k256_pubkey: "02", attestation: "03" },
    is_dev: false,
    gateway_app_id: GATEWAY_APP_ID,
    kms_contract_address: "0x01",
    chain_id: 5,
    app_auth_implementation: "0x02",
  });
});

test("GetMeta without bootstrap info or chain says null", async () => {
  const dev = { gatewayAppId: "any", kmsContractAddress: null, chainId: null };
  const { call } = await setup({
    policy: { ...DEFAULT_POLICY, isDev: true },
    authApi: {
      authorize: () => Promise.reject(new Error("not asked")),
      info: () => Promise.resolve({ ...dev, appImplementation: null, ethRpcUrl: null }),
    },
  });
  const { body } = await call("GetMeta");
  assert.equal(body.is_dev && body.allow_any_upgrade, true);
  assert.equal(body.gateway_app_id, "any");
  for (const name of ["bootstrap_info", "kms_contract_address", "chain_id"]) {
    assert.equal(body[name], null, name);
  }
});

test("GetTempCaCert gives the temp CA with its key, and the root", async () => {
  const { call, ports } = await setup();
  const { body } = await call("GetTempCaCert");
  assert.equal(body.temp_ca_cert, ports.identity.tempCaPem);
  assert.equal(body.ca_cert, ports.identity.rootCaPem);
  assert.match(body.temp_ca_key, /^-----BEGIN PRIVATE KEY-----\nMIGHAgEA/);
});

const LEAF_KEY = new Uint8Array(32).fill(7);
function csr(changes: Partial<CsrConfig> = {}, boundTo = p256Spki(LEAF_KEY)) {
  const bytes = encodeCsr(p256Spki(LEAF_KEY), {
    subject: "app.test",
    altNames: ["app.test", "10.0.0.9"],
    serverAuth: true,
    clientAuth: true,
    includeAttestation: true,
    includeAppInfo: false,
    ...changes,
  }, encodeAttestation(attestationFor(boundTo)));
  return { api_version: 2, csr: toHex(bytes), signature: toHex(signCsr(bytes, LEAF_KEY)) };
}

test("SignCert answers with a chain to the root that names the app", async () => {
  const { call, appraisals, ports, rows } = await setup();
  const notAfter = BigInt(Date.parse("2027-01-01T00:00:00Z") / 1000);
  const { status, body } = await call("SignCert", csr({ organization: "Acme", notAfter }));
  assert.equal(status, 200, body.error);
  assert.equal(appraisals[0]!.scope, "boot-time");
  const chain = body.certificate_chain.map(parseCertificatePem);
  assert.equal(chain.length, 3);
  const claims = verifyKmsChain(chain, ports.identity.rootCa, NOW);
  assert.equal(toHex(claims.appId!), APP_ID);
  assert.equal(claims.specialUsage, "app:custom");
  const [leaf] = chain;
  assert.deepEqual(leaf.publicKey, p256Spki(LEAF_KEY));
  assert.deepEqual(leaf.notAfter, new Date("2027-01-01T00:00:00Z"));
  assert.equal(leaf.commonName, "app.test");
  assert.equal(readEvidence(leaf)?.form, "versioned");
  assert.equal(rows[0]!.method, "SignCert");
});

test("SignCert refuses evidence of another key, a wrong signature and odd dates", async () => {
  const { call, rows } = await setup();
  const other = await call("SignCert", csr({}, p256Spki(new Uint8Array(32).fill(8))));
  assert.equal(other.body.error, "invalid quote: report data mismatch");
  assert.equal(other.reason, "report-data-mismatch");
  const unsigned = await call("SignCert", { ...csr(), signature: "00" });
  assert.equal(unsigned.body.error, "Invalid signature");
  const backwards = await call("SignCert", csr({ notBefore: 5n, notAfter: 5n }));
  assert.equal(backwards.body.error, "Certificate validity ends before it begins");
  const forever = await call("SignCert", csr({ notAfter: 2n ** 63n }));
  assert.match(forever.body.error, /years 0 to 9999/);
  assert.deepEqual(rows.map(({ outcome }) => outcome), Array(4).fill("denied"));
});

test("a KMS that may not run gives out nothing", async () => {
  const withoutAgent = await setup({
    policy: { ...DEFAULT_POLICY, enforceSelfAuthorization: true },
  });
  const asks: [string, unknown][] = [
    ["GetAppKey", {}],
    ["GetKmsKey", {}],
    ["GetAppEnvEncryptPubKey", { app_id: APP_ID }],
    ["GetTempCaCert", {}],
    ["SignCert", csr()],
  ];
  for (const [method, body] of asks) {
    const answer = await withoutAgent.call(method, body, clientCertificate());
    assert.match(answer.body.error, /^KMS self authorization failed: No guest agent/, method);
  }
  assert.equal((await withoutAgent.call("GetMeta")).status, 200);

  const self = {
    attest: (reportData: Uint8Array) =>
      Promise.resolve(encodeAttestation({
        ...attestationFor(p256Spki(LEAF_KEY)),
        stack: { kind: "dstack" as const, reportData, runtimeEvents: [], config: "" },
      })),
    vmConfig: () => Promise.resolve("{}"),
  };
  const policy = { ...DEFAULT_POLICY, enforceSelfAuthorization: true };
  const inCvm = await setup({ policy, self });
  assert.equal((await inCvm.call("GetTempCaCert")).status, 200);
  assert.equal((await inCvm.call("GetTempCaCert")).status, 200);
  assert.equal(inCvm.appraisals.length, 1, "attests to itself once");
  assert.deepEqual(inCvm.asked.map(({ role }) => role), ["kms", "kms"], "asks every time");
  inCvm.answers.boot = () => ({
    isAllowed: false,
    gatewayAppId: "",
    reason: "OS image is not allowed",
  });
  assert.deepEqual(await inCvm.call("GetTempCaCert"), {
    status: 400,
    body: {
      error: "KMS self authorization failed: KMS is not allowed: OS image is not allowed",
    },
    code: "kms/denied",
    reason: "auth/os-image-not-allowed",
  });
});

test("an oversized body is refused", async () => {
  const { app } = await setup();
  const response = await app.request("/prpc/GetAppKey?json", {
    method: "POST",
    body: new Uint8Array(10 * 1024 * 1024 + 1),
  }, {});
  assert.equal(response.status, 400);
  assert.match((await response.json() as { error: string }).error, /payload too large/);
  assert.equal(response.headers.get("x-error-code"), "input/too-large");
});

test("every answer names the version, and operations are served", async () => {
  const { app } = await setup();
  for (
    const path of ["/prpc/GetMeta", "/health", "/healthz", "/readyz", "/openapi.json", "/nope"]
  ) {
    const response = await app.request(path);
    assert.equal(
      response.headers.get("x-app-version"),
      "v0.1.0 (git:00112233445566778899)",
      path,
    );
  }
  assert.equal(await (await app.request("/health")).text(), "OK");
  assert.deepEqual(await (await app.request("/readyz")).json(), {
    status: "ready",
    checks: { "auth-api": true, "decision-log": true },
  });
  assert.equal((await app.request("/version")).status, 200);
});
