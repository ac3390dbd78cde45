import assert from "node:assert/strict";
import { test } from "node:test";
import { fromHex, fromUtf8, toHex, utf8 } from "#core/bytes/bytes.ts";
import { encodeAttestation } from "#core/attestation/versioned-attestation.ts";
import { bootstrap, bootstrapReportData } from "./bootstrap.ts";
import { attestationFor, DEFAULT_POLICY, fakePorts, memoryFiles, NOW } from "./fakes.ts";
import { hasKeys, loadIdentity } from "./key-store.ts";
import { createOnboardApp } from "./onboard-app.ts";
import type { SelfAttestation } from "./ports.ts";

function fakeAgent() {
  const reportDatas: Uint8Array[] = [];
  const self: SelfAttestation = {
    attest: (reportData) => {
      reportDatas.push(reportData);
      const { platform, stack } = attestationFor(new Uint8Array());
      return Promise.resolve(encodeAttestation({ platform, stack: { ...stack, reportData } }));
    },
    vmConfig: () => Promise.resolve("{}"),
  };
  return { self, reportDatas };
}

test("report data of a bootstrap hashes both public keys", () => {
  // Keccak-256 of the text in kms.md 5.2, computed with a separate implementation in Python.
  assert.equal(
    toHex(bootstrapReportData(fromHex("0102"), fromHex("0304"))),
    "a7d38a77a85a4e2658006409d907b2d55268074a63eebb9beff22e7f79d42c21" + "00".repeat(32),
  );
});

test("a bootstrap makes keys once and attests to them", async () => {
  const { self, reportDatas } = fakeAgent();
  const policy = { ...DEFAULT_POLICY, enforceSelfAuthorization: true };
  const { ports, asked, rows } = await fakePorts({ self, policy });
  const files = memoryFiles();
  const made = await bootstrap(ports, files, "kms.example");
  assert.equal(asked[0]!.role, "kms");
  assert.deepEqual(reportDatas[1], bootstrapReportData(made.caPublicKey, made.k256PublicKey));
  const identity = await loadIdentity(files, NOW);
  assert.deepEqual(identity.rootCa.publicKey, made.caPublicKey);
  assert.equal(identity.domain, "kms.example");
  assert.deepEqual(JSON.parse(fromUtf8(files.contents.get("bootstrap-info.json")!)), {
    ca_pubkey: toHex(made.caPublicKey),
    k256_pubkey: toHex(made.k256PublicKey),
    attestation: toHex(made.attestation!),
  });
  await assert.rejects(bootstrap(ports, files, "kms.example"), {
    code: "resource/conflict",
    message: "KMS has already been bootstrapped",
  });
  assert.deepEqual(rows.map(({ method, outcome, reason }) => [method, outcome, reason]), [
    ["Bootstrap", "released", ""],
    ["Bootstrap", "denied", "resource/conflict"],
  ]);
});

test("a KMS that is not allowed makes no keys", async () => {
  const { self } = fakeAgent();
  const policy = { ...DEFAULT_POLICY, enforceSelfAuthorization: true };
  const { ports, answers } = await fakePorts({ self, policy });
  answers.boot = () => ({
    isAllowed: false,
    gatewayAppId: "",
    reason: "aggregated MR not allowed",
  });
  const files = memoryFiles();
  await assert.rejects(bootstrap(ports, files, "kms.example"), {
    code: "kms/denied",
    message: "KMS is not allowed to bootstrap: boot denied: aggregated MR not allowed",
    fields: { reason: "auth/mr-aggregated-not-allowed" },
  });
  await assert.rejects(bootstrap({ ...ports, self: undefined }, files, "kms.example"), {
    code: "kms/not-ready",
    fields: { reason: "self/unavailable" },
  });
  assert.equal(await hasKeys(files), false);
  assert.equal(files.contents.size, 0);
});

test("odd domains are refused", async () => {
  const { ports } = await fakePorts();
  const odd = ["", "a..b", "-a.example", "a-.example", "a_b", "ü.example", "a/b", "a".repeat(64)];
  for (const domain of [...odd, `${"a.".repeat(127)}a`]) {
    await assert.rejects(
      bootstrap(ports, memoryFiles(), domain),
      { code: "input/malformed" },
      domain,
    );
  }
  for (const domain of ["10.0.2.2", "::1", "a", "A-1.example"]) {
    await bootstrap(ports, memoryFiles(), domain);
  }
});

test("the onboarding server bootstraps once, whoever comes second", async () => {
  const { ports } = await fakePorts();
  const files = memoryFiles();
  let finished = 0;
  const app = createOnboardApp({
    ...ports,
    files,
    peerFetch: () => () => Promise.reject(new TypeError("nobody to call")),
    finish: () => finished++,
  });
  const ask = () =>
    app.request("/prpc/Onboard.Bootstrap?json", {
      method: "POST",
      body: JSON.stringify({ domain: "kms.example" }),
    });
  const [first, second] = await Promise.all([ask(), ask()]);
  assert.equal(first.status, 200);
  const made = await first.json() as { ca_pubkey: string; k256_pubkey: string };
  assert.deepEqual([made.ca_pubkey.length, made.k256_pubkey.length], [182, 66]);
  assert.equal(second.status, 400);
  assert.deepEqual(await second.json(), { error: "KMS has already been bootstrapped" });
  assert.equal(await (await app.request("/health")).text(), "OK");
  assert.equal(await (await app.request("/finish")).text(), "OK");
  assert.equal((await app.request("/prpc/Finish", { method: "POST" })).status, 200);
  assert.equal(finished, 2);
});

test("an old file of a KMS is never overwritten", async () => {
  const { ports } = await fakePorts();
  const files = memoryFiles();
  files.contents.set("root-k256.key", utf8("precious"));
  await assert.rejects(bootstrap(ports, files, "kms.example"), { code: "resource/conflict" });
  assert.equal(fromUtf8(files.contents.get("root-k256.key")!), "precious");
});
