import { reportData } from "#core/attestation/report-data.ts";
import { encodeAttestation, stripAttestation } from "#core/attestation/versioned-attestation.ts";
import { p256Spki, parseP256Pkcs8, randomP256Scalar } from "#core/crypto/p256.ts";
import { decodeOnePem } from "#core/encoding/pem.ts";
import { AppError } from "#core/errors/app-error.ts";
import { equalBytes } from "#core/bytes/bytes.ts";
import { buildCertificate, defaultNotAfter, selfIssuer } from "#core/ra-tls/certificate-builder.ts";
import { certificatePem, parseCertificatePem } from "#core/ra-tls/certificate.ts";
import { p256KeyPem } from "../boot/app-keys.ts";
import { attest, attestPublicKey } from "./attest.ts";
import type { Tee } from "./tee.ts";

/** A certificate with this guest's evidence, and its key as PKCS#8 PEM. */
export interface AttestedCertificate {
  readonly certPem: string;
  readonly keyPem: string;
}

interface Attester {
  readonly tee: Tee;
  /** The host's text. */
  readonly vmConfig: string;
  readonly now: () => Date;
}

/** An RA-TLS leaf below the given CA. Throws `input/malformed` when the key is not the CA's. */
export async function raCertificate(
  ca: AttestedCertificate,
  { tee, vmConfig, now }: Attester,
): Promise<AttestedCertificate> {
  const issuer = parseCertificatePem(ca.certPem);
  const issuerKey = parseP256Pkcs8(decodeOnePem("PRIVATE KEY", ca.keyPem));
  if (!equalBytes(issuer.publicKey, p256Spki(issuerKey))) {
    throw new AppError("input/malformed", "The CA's key is not that of its certificate");
  }
  const key = randomP256Scalar();
  const publicKey = p256Spki(key);
  const certificate = buildCertificate({
    subject: { commonName: "RA-TLS TEMP Cert" },
    publicKey,
    issuer: { name: issuer.subject, key: issuerKey },
    notAfter: defaultNotAfter(now()),
    attestation: await attestPublicKey(tee, publicKey, vmConfig),
  });
  return { certPem: certificatePem(certificate), keyPem: p256KeyPem(key) };
}

/** A CA of its own with evidence tagged `kms-root-ca`; `level` counts the CAs allowed below it. */
export async function caCertificate(
  level: number,
  { tee, vmConfig, now }: Attester,
): Promise<AttestedCertificate> {
  const subject = { commonName: "App Root CA" };
  const key = randomP256Scalar();
  const publicKey = p256Spki(key);
  const evidence = await attest(tee, reportData("kms-root-ca", publicKey), vmConfig);
  const certificate = buildCertificate({
    subject,
    publicKey,
    issuer: selfIssuer(subject, key),
    notAfter: defaultNotAfter(now()),
    ca: { pathLength: level },
    attestation: encodeAttestation(stripAttestation(evidence)),
  });
  return { certPem: certificatePem(certificate), keyPem: p256KeyPem(key) };
}
