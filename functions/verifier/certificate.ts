import { type Policy, policyWith } from "#core/attestation/policy.ts";
import type { Attestation } from "#core/attestation/attestation.ts";
import type { Verdict } from "#core/attestation/verdict.ts";
import { fromUtf8, toHex } from "#core/bytes/bytes.ts";
import { DER, DerReader } from "#core/encoding/der.ts";
import { AppError } from "#core/errors/app-error.ts";
import {
  type Certificate,
  KEY_USAGE,
  parseCertificate,
  parseCertificatePem,
  verifyIssued,
} from "#core/ra-tls/certificate.ts";
import { X509_OID } from "#core/ra-tls/oids.ts";
import { requirePeerEvidence } from "#core/ra-tls/peer.ts";
import { infoOf, REFERENCE_POLICY } from "./reference-api.ts";

/** What `--verify-cert` answers (spec attestation.md 6.4). */
export interface CertificateResponse {
  readonly is_valid: boolean;
  /** Absent when valid. */
  readonly reason?: string;
  readonly details?: {
    readonly tee_variant: string;
    readonly report_data: string | null;
    readonly public_key_der: string;
    readonly app_info: Readonly<Record<string, unknown>> | null;
  };
}

/** Whose key a certificate's is must be proven; its image only where the evidence brings what that needs. */
export const CERTIFICATE_POLICY: Policy = policyWith({
  required: [...REFERENCE_POLICY.required.filter((id) => id !== "os-image"), "report-data"],
}, REFERENCE_POLICY);

/**
 * Answers about a self-signed RA-TLS certificate, PEM or DER: that it may be used as one, and whose key
 * its evidence is bound to. `judge` appraises under CERTIFICATE_POLICY. Failures are answers.
 */
export async function answerCertificate(
  file: Uint8Array,
  now: Date,
  judge: (attestation: Attestation, expectedReportData: Uint8Array) => Promise<Verdict>,
): Promise<CertificateResponse> {
  try {
    const certificate = readCertificate(file);
    requireUsable(certificate, now);
    const { attestation, expectedReportData } = requirePeerEvidence(certificate);
    const verdict = await judge(attestation, expectedReportData);
    const { outcome, reason, tee, reportData, identity, checks } = verdict;
    if (outcome === "refused") {
      return { is_valid: false, reason: `${reason!.code}: ${reason!.detail}` };
    }
    const isProven = checks.some(({ id, result }) => id === "os-image" && result === "passed");
    return {
      is_valid: true,
      details: {
        tee_variant: tee,
        report_data: reportData,
        public_key_der: toHex(certificate.publicKey),
        app_info: identity &&
          { ...infoOf(attestation, verdict), os_image_hash_verified: isProven },
      },
    };
  } catch (error) {
    if (!(error instanceof AppError)) throw error;
    return { is_valid: false, reason: error.message };
  }
}

function readCertificate(file: Uint8Array): Certificate {
  const isPem = file[0] !== DER.sequence;
  return isPem ? parseCertificatePem(fromUtf8(file, "certificate")) : parseCertificate(file);
}

function requireUsable(certificate: Certificate, now: Date): void {
  verifyIssued(certificate, certificate);
  const { notBefore, notAfter, keyUsage = 0, extensions } = certificate;
  if (now < notBefore || now > notAfter) throw unusable("is outside its validity");
  if ((keyUsage & KEY_USAGE.digitalSignature) === 0) throw unusable("may not sign");
  const purposes = listIn(
    extensions.get(X509_OID.extendedKeyUsage)?.value,
    (list) => list.oid("KeyPurposeId"),
  );
  if (!purposes.includes(X509_OID.serverAuth) && !purposes.includes(X509_OID.clientAuth)) {
    throw unusable("is neither a server's nor a client's");
  }
  const names = listIn(
    extensions.get(X509_OID.subjectAltName)?.value,
    (list) => list.any("GeneralName"),
  );
  if (names.length === 0) throw unusable("has no alternative name");
}

/** The elements of a SEQUENCE OF; none where the extension is absent. */
function listIn<T>(value: Uint8Array | undefined, read: (list: DerReader) => T): T[] {
  if (value === undefined) return [];
  const outer = new DerReader(value, "certificate extension");
  const list = outer.enter("list");
  outer.end();
  const items: T[] = [];
  while (!list.done) items.push(read(list));
  return items;
}

function unusable(why: string): AppError {
  return new AppError("certificate/untrusted", `The certificate ${why}`);
}
