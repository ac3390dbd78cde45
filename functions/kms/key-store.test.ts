import assert from "node:assert/strict";
import { test } from "node:test";
import { fromUtf8, toHex, utf8 } from "#core/bytes/bytes.ts";
import { p256Spki } from "#core/crypto/p256.ts";
import { certificatePem, parseCertificatePem } from "#core/ra-tls/certificate.ts";
import { readIssuerClaims } from "#core/ra-tls/claims.ts";
import { verifyKmsChain } from "#core/ra-tls/chain.ts";
import { buildRootCa } from "./certificates.ts";
import { KEYS, memoryFiles, NOW } from "./fakes.ts";
import {
  completePending,
  hasKeys,
  type KeyFiles,
  loadIdentity,
  readBootstrapInfo,
  requireNoKeys,
  storeNewKeys,
} from "./key-store.ts";

const DAY_MS = 86_400_000;

test("new keys stand in the reference's files, secrets for the owner only", async () => {
  const files = memoryFiles();
  await storeNewKeys(files, { keys: KEYS, domain: "kms.test" });
  await loadIdentity(files, NOW);
  assert.deepEqual(Object.fromEntries([...files.modes].sort()), {
    "bootstrap-pending.json": 0o600,
    "root-ca.crt": 0o644,
    "root-ca.key": 0o600,
    "root-k256.key": 0o600,
    "rpc-domain": 0o644,
    "rpc.crt": 0o644,
    "rpc.key": 0o600,
    "tmp-ca.crt": 0o644,
    "tmp-ca.key": 0o600,
  });
  assert.equal(files.contents.has("bootstrap-pending.json"), false);
  assert.deepEqual(files.contents.get("root-k256.key"), KEYS.k256Key);
  assert.match(fromUtf8(files.contents.get("root-ca.key")!), /^-----BEGIN PRIVATE KEY-----\n/);
});

test("the identity's certificates have the profile of a KMS", async () => {
  const files = memoryFiles();
  await storeNewKeys(files, { keys: KEYS, domain: "10.0.2.2" });
  const identity = await loadIdentity(files, NOW, { attest: async (spki) => spki.slice(0, 4) });
  assert.deepEqual(identity.rootCa.publicKey, p256Spki(KEYS.caKey));
  assert.deepEqual(identity.rootCa.ca, { pathLength: 1 });
  const temp = parseCertificatePem(identity.tempCaPem);
  assert.equal(temp.commonName, "Dstack Client Temp CA");
  assert.deepEqual(temp.ca, { pathLength: 0 });
  const rpc = parseCertificatePem(identity.rpcCertPem);
  assert.equal(verifyKmsChain([rpc], identity.rootCa, NOW).specialUsage, "kms:rpc");
  assert.equal(readIssuerClaims(rpc).appId, undefined);
  assert.equal(toHex(rpc.extensions.get("2.5.29.17")!.value), "300687040a000202");
  assert.equal(toHex(rpc.extensions.get("1.3.6.1.4.1.62397.1.8")!.value), "040430593013");
});

test("an interrupted store is finished at the next start, wherever it stopped", async () => {
  const made = { keys: KEYS, domain: "kms.test" };
  const whole = memoryFiles();
  await storeNewKeys(whole, made);
  for (let stopAfter = 0;; stopAfter++) {
    const files = memoryFiles();
    let writes = 0;
    const failing: KeyFiles = {
      ...files,
      write: (name, content, mode) => {
        if (writes++ === stopAfter) throw new Error("power failure");
        return files.write(name, content, mode);
      },
      remove: (name) => {
        if (writes++ === stopAfter) throw new Error("power failure");
        return files.remove(name);
      },
    };
    try {
      await storeNewKeys(failing, made);
      break;
    } catch {
      // the crash
    }
    await completePending(files);
    assert.equal(await hasKeys(files), stopAfter > 0, `stopped after ${stopAfter}`);
    if (stopAfter > 0) assert.deepEqual(files.contents, whole.contents);
  }
});

test("a lost key stops the start and names it, a lost certificate is made anew", async () => {
  const files = memoryFiles();
  assert.equal(await hasKeys(files), false);
  await storeNewKeys(files, { keys: KEYS, domain: "kms.test" });
  await loadIdentity(files, NOW);
  files.contents.delete("rpc.crt");
  files.contents.delete("root-ca.crt");
  assert.equal(await hasKeys(files), true);
  assert.deepEqual((await loadIdentity(files, NOW)).rootCa.publicKey, p256Spki(KEYS.caKey));
  files.contents.delete("rpc.key");
  await assert.rejects(hasKeys(files), { code: "config/invalid", message: /lacks rpc.key/ });
});

test("any file of a KMS forbids new keys", async () => {
  const names = ["root-ca.key", "root-k256.key", "tmp-ca.key", "rpc.key", "root-ca.crt", "rpc.crt"];
  for (const name of [...names, "tmp-ca.crt", "bootstrap-info.json", "bootstrap-pending.json"]) {
    const files = memoryFiles();
    await requireNoKeys(files, "no");
    files.contents.set(name, utf8("x"));
    await assert.rejects(requireNoKeys(files, "no"), { code: "resource/conflict", message: "no" });
  }
});

test("a CA certificate is renewed 365 days before it ends, not earlier", async () => {
  const files = memoryFiles();
  await storeNewKeys(files, { keys: KEYS, domain: "kms.test" });
  const rootPem = () => fromUtf8(files.contents.get("root-ca.crt")!);
  await loadIdentity(files, NOW);
  const first = rootPem();
  const end = parseCertificatePem(first).notAfter.getTime();
  await loadIdentity(files, new Date(end - 366 * DAY_MS));
  assert.equal(rootPem(), first);
  await loadIdentity(files, new Date(end - 365 * DAY_MS));
  assert.notEqual(rootPem(), first);
});

test("a root certificate of another key stops the start", async () => {
  const files = memoryFiles();
  await storeNewKeys(files, { keys: KEYS, domain: "kms.test" });
  const other = certificatePem(buildRootCa(new Uint8Array(32).fill(9), NOW));
  files.contents.set("root-ca.crt", utf8(other));
  await assert.rejects(loadIdentity(files, NOW), {
    code: "config/invalid",
    message: "root-ca.crt: CA certificate does not match private key",
  });
});

test("bootstrap info is hex JSON, and a broken one is none", async () => {
  const files = memoryFiles();
  const info = {
    caPublicKey: Uint8Array.of(1),
    k256PublicKey: Uint8Array.of(2),
    attestation: Uint8Array.of(3),
  };
  await storeNewKeys(files, { keys: KEYS, domain: "kms.test", bootstrapInfo: info });
  assert.equal(
    fromUtf8(files.contents.get("bootstrap-info.json")!),
    '{"ca_pubkey":"01","k256_pubkey":"02","attestation":"03"}',
  );
  assert.deepEqual(await readBootstrapInfo(files), info);
  files.contents.set("bootstrap-info.json", utf8("{"));
  assert.equal(await readBootstrapInfo(files), undefined);
});
