import assert from "node:assert/strict";
import { test } from "node:test";
import { appraise } from "#core/attestation/appraise.ts";
import { ratlsReportData } from "#core/attestation/report-data.ts";
import { encodeAttestation } from "#core/attestation/versioned-attestation.ts";
import { toHex, utf8 } from "#core/bytes/bytes.ts";
import { p256Spki, randomP256Scalar } from "#core/crypto/p256.ts";
import { certificatePem } from "#core/ra-tls/certificate.ts";
import {
  buildCertificate,
  type CertificateSpec,
  selfIssuer,
} from "#core/ra-tls/certificate-builder.ts";
import { simulatedCvm, type SimulatedCvmSpec } from "../../tests/simulated-cvm.ts";
import { answerCertificate, CERTIFICATE_POLICY } from "./certificate.ts";

const NOW = new Date("2026-06-01T12:00:00Z");
const subject = { commonName: "an app" };

/** A CVM's certificate and the answer about it. */
async function answerFor(
  changes: Partial<CertificateSpec> = {},
  { config, reportData }: Pick<SimulatedCvmSpec, "config" | "reportData"> = {},
  encode: (der: Uint8Array) => Uint8Array = (der) => der,
) {
  const key = randomP256Scalar();
  const publicKey = p256Spki(key);
  const cvm = simulatedCvm({
    reportData: reportData ?? ratlsReportData(publicKey),
    ...(config && { config }),
  });
  const der = buildCertificate({
    subject,
    publicKey,
    issuer: selfIssuer(subject, key),
    notAfter: new Date("2030-01-01T00:00:00Z"),
    altNames: ["app.example.org"],
    serverAuth: true,
    attestation: encodeAttestation(cvm.attestation),
    ...changes,
  });
  const answer = await answerCertificate(
    encode(der),
    NOW,
    (attestation, expectedReportData) =>
      appraise({
        attestation,
        expectedReportData,
        collateral: cvm.platform.collateral(NOW),
        trustAnchors: [cvm.trustAnchor],
        now: NOW,
        policy: CERTIFICATE_POLICY,
      }),
  );
  return { answer, cvm, publicKey };
}

test("a certificate bound to its key is valid, in DER and in PEM", async () => {
  const pem = (der: Uint8Array) => utf8(certificatePem(der));
  for (const encode of [undefined, pem]) {
    const { answer, cvm, publicKey } = await answerFor({}, {}, encode);
    assert.equal(answer.reason, undefined);
    assert.equal(answer.is_valid, true);
    const { tee_variant, report_data, public_key_der, app_info } = answer.details!;
    assert.equal(tee_variant, "dstack-tdx");
    assert.equal(report_data, toHex(ratlsReportData(publicKey)));
    assert.equal(public_key_der, toHex(publicKey));
    assert.equal(app_info!["app_id"], toHex(cvm.appId));
    assert.equal(app_info!["os_image_hash_verified"], true);
  }
});

test("a legacy CVM's certificate is valid, its image unproven", async () => {
  const config = { tdx_attestation_variant: "legacy", tdx_measurement: null };
  const { answer } = await answerFor({}, { config });
  assert.equal(answer.is_valid, true);
  assert.equal(answer.details!.app_info!["os_image_hash_verified"], false);
});

test("a certificate that may not be used, or is bound to another key, is not valid", async () => {
  const other = randomP256Scalar();
  const cases: [RegExp, Partial<CertificateSpec>, SimulatedCvmSpec?][] = [
    [/was not signed by/, { issuer: selfIssuer(subject, other) }],
    [/names another issuer/, { subject: { commonName: "somebody else" } }],
    [/outside its validity/, { notAfter: new Date("2026-06-01T11:59:59Z") }],
    [/outside its validity/, { notBefore: new Date("2026-06-01T12:00:01Z") }],
    [/neither a server's nor a client's/, { serverAuth: false }],
    [/no alternative name/, { altNames: [] }],
    [/attestation extension missing/, { attestation: undefined }],
    [/report data mismatch/, {}, { reportData: ratlsReportData(p256Spki(other)) }],
    [/os-image-register-mismatch/, {}, { config: { memory_size: 8 * 2 ** 30 } }],
  ];
  for (const [reason, changes, spec] of cases) {
    const { answer } = await answerFor(changes, spec);
    assert.equal(answer.is_valid, false);
    assert.match(answer.reason!, reason);
    assert.equal(answer.details, undefined);
  }
  const garbage = await answerCertificate(utf8("-----BEGIN"), NOW, () => Promise.reject());
  assert.equal(garbage.is_valid, false);
});
