import assert from "node:assert/strict";
import { test } from "node:test";
import { p256Spki, randomP256Scalar } from "../crypto/p256.ts";
import {
  buildCertificate,
  type CertificateSpec,
  encodeName,
  selfIssuer,
} from "./certificate-builder.ts";
import { type Certificate, parseCertificate } from "./certificate.ts";
import { verifyKmsChain } from "./chain.ts";

const NOW = new Date("2026-06-01T00:00:00Z");
const NOT_AFTER = new Date("2030-01-01T00:00:00Z");
const ROOT_NAME = { organization: "Dstack", commonName: "Dstack KMS CA" };
const CA_NAME = { organization: "Dstack", commonName: "Dstack App CA" };
const APP_ID = new Uint8Array(20).fill(1);

const rootKey = randomP256Scalar();
const caKey = randomP256Scalar();

function certificate(
  spec: Partial<CertificateSpec> & Pick<CertificateSpec, "issuer">,
): Certificate {
  return parseCertificate(buildCertificate({
    subject: { commonName: "leaf" },
    publicKey: p256Spki(randomP256Scalar()),
    notAfter: NOT_AFTER,
    ...spec,
  }));
}

function root(overrides: Partial<CertificateSpec> = {}): Certificate {
  return certificate({
    subject: ROOT_NAME,
    publicKey: p256Spki(rootKey),
    issuer: selfIssuer(ROOT_NAME, rootKey),
    ca: { pathLength: 1 },
    ...overrides,
  });
}

function appCa(overrides: Partial<CertificateSpec> = {}): Certificate {
  return certificate({
    subject: CA_NAME,
    publicKey: p256Spki(caKey),
    issuer: { name: encodeName(ROOT_NAME), key: rootKey },
    ca: { pathLength: 0 },
    appId: APP_ID,
    ...overrides,
  });
}

function leaf(overrides: Partial<CertificateSpec> = {}): Certificate {
  return certificate({
    issuer: { name: encodeName(CA_NAME), key: caKey },
    appId: APP_ID,
    specialUsage: "app:custom",
    ...overrides,
  });
}

const UNTRUSTED = { code: "certificate/untrusted" };

test("a chain to the root yields the KMS's claims, with or without the root in it", () => {
  for (const chain of [[leaf(), appCa()], [leaf(), appCa(), root()]]) {
    const claims = verifyKmsChain(chain, root(), NOW);
    assert.deepEqual(claims.appId, APP_ID);
    assert.equal(claims.specialUsage, "app:custom");
  }
});

test("a leaf of the root itself, as the KMS's own, is accepted", () => {
  const kms = leaf({
    issuer: { name: encodeName(ROOT_NAME), key: rootKey },
    specialUsage: "kms:rpc",
  });
  assert.equal(verifyKmsChain([kms], root(), NOW).specialUsage, "kms:rpc");
});

test("another replica's root certificate vouches as well: the key counts", () => {
  const replica = root({ notAfter: new Date("2031-01-01T00:00:00Z") });
  verifyKmsChain([leaf(), appCa(), root()], replica, NOW);
});

test("another root, a missing link and a wrong signature are refused", () => {
  const otherKey = randomP256Scalar();
  const other = root({ publicKey: p256Spki(otherKey), issuer: selfIssuer(ROOT_NAME, otherKey) });
  assert.throws(() => verifyKmsChain([leaf(), appCa()], other, NOW), UNTRUSTED);
  assert.throws(() => verifyKmsChain([leaf()], root(), NOW), UNTRUSTED);
  assert.throws(() => verifyKmsChain([], root(), NOW), UNTRUSTED);
  const forged = leaf({ issuer: { name: encodeName(CA_NAME), key: otherKey } });
  assert.throws(() => verifyKmsChain([forged, appCa()], root(), NOW), UNTRUSTED);
});

test("the root alone does not authenticate a peer", () => {
  assert.throws(() => verifyKmsChain([root()], root(), NOW), UNTRUSTED);
});

test("a leaf cannot issue, and a path length is kept", () => {
  const notCa = certificate({
    subject: CA_NAME,
    publicKey: p256Spki(caKey),
    issuer: { name: encodeName(ROOT_NAME), key: rootKey },
  });
  assert.throws(() => verifyKmsChain([leaf(), notCa], root(), NOW), UNTRUSTED);
  const subKey = randomP256Scalar();
  const subCa = certificate({
    subject: { commonName: "sub" },
    publicKey: p256Spki(subKey),
    issuer: { name: encodeName(CA_NAME), key: caKey },
    ca: { pathLength: 0 },
  });
  const below = leaf({ issuer: { name: encodeName({ commonName: "sub" }), key: subKey } });
  assert.throws(() => verifyKmsChain([below, subCa, appCa()], root(), NOW), UNTRUSTED);
});

test("validity is enforced on every certificate", () => {
  const past = { notAfter: new Date("2026-05-31T00:00:00Z") };
  assert.throws(() => verifyKmsChain([leaf(past), appCa()], root(), NOW), UNTRUSTED);
  assert.throws(() => verifyKmsChain([leaf(), appCa(past)], root(), NOW), UNTRUSTED);
  assert.throws(() => verifyKmsChain([leaf(), appCa()], root(past), NOW), UNTRUSTED);
  const early = { notBefore: new Date("2026-06-02T00:00:00Z") };
  assert.throws(() => verifyKmsChain([leaf(early), appCa()], root(), NOW), UNTRUSTED);
});

test("an app's CA cannot vouch for another app", () => {
  const other = leaf({ appId: new Uint8Array(20).fill(2) });
  assert.throws(() => verifyKmsChain([other, appCa()], root(), NOW), UNTRUSTED);
  assert.throws(
    () => verifyKmsChain([leaf({ appId: undefined }), appCa()], root(), NOW),
    UNTRUSTED,
  );
});
