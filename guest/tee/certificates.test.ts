import assert from "node:assert/strict";
import { X509Certificate } from "node:crypto";
import { test } from "node:test";
import { ratlsReportData, reportData } from "#core/attestation/report-data.ts";
import { decodeAttestation, tdReportOf } from "#core/attestation/versioned-attestation.ts";
import { toHex } from "#core/bytes/bytes.ts";
import { parseCertificatePem } from "#core/ra-tls/certificate.ts";
import { readEvidence } from "#core/ra-tls/claims.ts";
import { parseQuote } from "#core/tdx/quote.ts";
import { hasVectors, vectorBytes } from "../../tests/vectors.ts";
import { seededAppKeys } from "../boot/local-keys.ts";
import { caCertificate, raCertificate } from "./certificates.ts";
import { describeReplay } from "./describe.ts";
import { createRecordedTee } from "./recorded.ts";

const skip = !hasVectors;
const recorded = () => decodeAttestation(vectorBytes("dstack/simulator/attestation.bin"));
const attester = () => ({
  tee: createRecordedTee(recorded()),
  vmConfig: "{}",
  now: () => new Date("2026-01-01T00:00:00Z"),
});

/** What the quote in a certificate says, in hex. */
function boundReportData(certPem: string): string {
  const evidence = readEvidence(parseCertificatePem(certPem));
  assert.equal(evidence?.form, "versioned");
  const { platform } = decodeAttestation(evidence.attestation);
  assert.equal(platform.kind, "tdx");
  return toHex(tdReportOf(parseQuote(platform.quote)).reportData);
}

test("gen-ca-cert makes a CA whose evidence has the tag kms-root-ca", { skip }, async () => {
  const { certPem, keyPem } = await caCertificate(2, attester());
  const certificate = new X509Certificate(certPem);
  assert.equal(certificate.subject, "CN=App Root CA");
  assert.ok(certificate.ca && certificate.verify(certificate.publicKey));
  assert.match(keyPem, /^-----BEGIN PRIVATE KEY-----\n/);
  const { publicKey } = parseCertificatePem(certPem);
  assert.equal(boundReportData(certPem), toHex(reportData("kms-root-ca", publicKey)));
});

test("gen-ra-cert makes a leaf of the CA, bound to its own key", { skip }, async () => {
  const ca = await caCertificate(1, attester());
  const leaf = await raCertificate(ca, attester());
  const certificate = new X509Certificate(leaf.certPem);
  assert.ok(!certificate.ca && certificate.verify(new X509Certificate(ca.certPem).publicKey));
  const { publicKey } = parseCertificatePem(leaf.certPem);
  assert.equal(boundReportData(leaf.certPem), toHex(ratlsReportData(publicKey)));
  const other = await caCertificate(1, attester());
  await assert.rejects(raCertificate({ ...ca, keyPem: other.keyPem }, attester()), {
    code: "input/malformed",
  });
});

test("replay-imr counts events and replays registers", { skip }, () => {
  const { platform } = recorded();
  assert.equal(platform.kind, "tdx");
  const lines = describeReplay(platform.eventLog).split("\n");
  // spec/guest-agent.md 10.1
  for (const [imr, count] of [17, 5, 2, 9].entries()) {
    assert.ok(lines[imr]!.startsWith(`RTMR${imr}: ${count} events, `), lines[imr]);
  }
  assert.ok(lines[3]!.endsWith(
    "f28a1490ee924e9396c2ccf2d93ad536b83cbe159a1d45024d1fd7acdcc102145efcfcd0cfa209416446c70226affadf",
  ));
});

test("gen-app-keys makes keys whose CA allows as many levels as asked", { skip }, async () => {
  const ports = {
    attestPublicKey: () => Promise.resolve(new Uint8Array()),
    now: () => new Date(0),
  };
  // basicConstraints, critical, CA, with the path length last (RFC 5280 4.2.1.9), in DER.
  const constraints = (level: string) => `0603551d130101ff040830060101ff0201${level}`;
  for (const [level, hex] of [[0, "00"], [3, "03"]] as const) {
    const keys = await seededAppKeys(new Uint8Array(32).fill(0x42), ports, level);
    const { raw } = new X509Certificate(keys.caCertPem);
    assert.ok(toHex(new Uint8Array(raw)).includes(constraints(hex)));
    // Seed 42×32 of spec/os.md 8.3.
    assert.equal(
      toHex(keys.diskCryptKey),
      "7da9ed9d9f115d7af8cd3b1d3543ab8b593f7b6861bd7afdb6068103b0b86650",
    );
    assert.equal(
      toHex(keys.k256Key),
      "bf80e92f0094755c9c2f3e83b75ae5ca0c3f427b346bf4bcf693747779a42e1d",
    );
  }
});
