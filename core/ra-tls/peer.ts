import {
  attestationFromTdxQuote,
  decodeAttestation,
} from "../attestation/versioned-attestation.ts";
import type { Attestation } from "../attestation/attestation.ts";
import { ratlsReportData } from "../attestation/report-data.ts";
import { equalBytes, fromUtf8 } from "../bytes/bytes.ts";
import { AppError } from "../errors/app-error.ts";
import { refusal } from "../errors/refusal.ts";
import { parseEventLogJson } from "../event-log/tdx-event.ts";
import type { Certificate } from "./certificate.ts";
import { type CertificateEvidence, readEvidence } from "./claims.ts";

/**
 * Evidence that claims to be bound to a key. Pass `expectedReportData` to `appraise`: only then does
 * the hardware vouch for the key.
 */
export interface BoundEvidence {
  readonly attestation: Attestation;
  /** 64 bytes, made from the key and never from the evidence. */
  readonly expectedReportData: Uint8Array;
}

/** The evidence of a peer's certificate; undefined when it carries none. */
export function peerEvidence(certificate: Certificate): BoundEvidence | undefined {
  const evidence = readEvidence(certificate);
  return evidence === undefined ? undefined : bindEvidence(evidence, certificate.publicKey);
}

/** As `peerEvidence`, for peers that must be attested. Throws `attestation/missing`. */
export function requirePeerEvidence(certificate: Certificate): BoundEvidence {
  const bound = peerEvidence(certificate);
  if (bound === undefined) {
    throw new AppError("attestation/missing", "attestation extension missing");
  }
  return bound;
}

/**
 * Decodes evidence and compares the report data it claims with that of the key (DER SPKI). Throws
 * `attestation/refused` with reason `report-data-mismatch`: it was made for another key.
 */
export function bindEvidence(evidence: CertificateEvidence, publicKey: Uint8Array): BoundEvidence {
  const attestation = evidence.form === "versioned"
    ? decodeAttestation(evidence.attestation)
    : legacyAttestation(evidence);
  const expectedReportData = ratlsReportData(publicKey);
  if (!equalBytes(attestation.stack.reportData, expectedReportData)) {
    throw refusal("report-data-mismatch", "report data mismatch");
  }
  return { attestation, expectedReportData };
}

function legacyAttestation(evidence: CertificateEvidence & { form: "legacy" }): Attestation {
  const eventLog = parseEventLogJson(fromUtf8(evidence.eventLog, "event log"));
  return attestationFromTdxQuote(evidence.quote, eventLog, "");
}
