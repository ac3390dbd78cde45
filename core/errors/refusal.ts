import { AppError } from "./app-error.ts";

/**
 * Why evidence was refused, and the verdict check (design section 10) each reason belongs to. Codes
 * are stable and mean the same on every TEE: clients, logs and the KMS's decisions carry them.
 */
export const REFUSAL_REASONS = {
  "evidence-malformed": "evidence-format",
  "evidence-unsupported": "evidence-format",

  "endorsement-missing": "signature-chain",
  "certificate-malformed": "signature-chain",
  "certificate-untrusted": "signature-chain",
  "certificate-not-yet-valid": "signature-chain",
  "certificate-expired": "signature-chain",
  "certificate-signature-invalid": "signature-chain",
  "certificate-usage-invalid": "signature-chain",
  "quote-signature-invalid": "signature-chain",
  "quoting-enclave-signature-invalid": "signature-chain",
  "quoting-enclave-binding-invalid": "signature-chain",

  "certificate-revoked": "revocation",
  "revocation-unknown": "revocation",

  "evidence-not-yet-valid": "evidence-freshness",
  "evidence-expired": "evidence-freshness",

  "crl-malformed": "collateral-validity",
  "crl-signature-invalid": "collateral-validity",
  "crl-not-yet-valid": "collateral-validity",
  "crl-expired": "collateral-validity",
  "collateral-missing": "collateral-validity",
  "collateral-malformed": "collateral-validity",
  "collateral-signature-invalid": "collateral-validity",
  "collateral-not-yet-valid": "collateral-validity",
  "collateral-expired": "collateral-validity",
  "collateral-too-old": "collateral-validity",

  "platform-mismatch": "platform-match",
  "quoting-enclave-identity-mismatch": "platform-match",
  "tdx-module-mismatch": "platform-match",

  "tcb-level-not-found": "tcb-status",
  "tcb-revoked": "tcb-status",
  "tcb-status-not-allowed": "tcb-status",
  "tcb-evaluation-too-old": "tcb-status",
  "advisory-not-allowed": "tcb-advisories",

  "debug-enabled": "debug-disabled",
  "attributes-not-allowed": "tee-attributes",

  "tpm-quote-mismatch": "tpm-quote",
  "tpm-quote-unbound": "tpm-quote",

  "report-data-mismatch": "report-data",
  "event-log-malformed": "event-log-replay",
  "event-log-mismatch": "event-log-replay",
  "launch-event-missing": "launch-events",
  "launch-event-malformed": "launch-events",
  "launch-event-duplicated": "launch-events",
  "launch-event-order": "launch-events",

  "gpu-attestation-malformed": "gpu-attestation",
  "gpu-attestation-mismatch": "gpu-attestation",
  "gpu-mode-not-allowed": "gpu-attestation",

  "os-image-unknown": "os-image",
  "os-image-not-allowed": "os-image",
  "os-image-document-malformed": "os-image",
  "os-image-document-mismatch": "os-image",
  "os-image-register-mismatch": "os-image",
  "acpi-tables-mismatch": "acpi-tables",

  "mr-config-id-missing": "mr-config-id",
  "mr-config-id-mismatch": "mr-config-id",
  "mr-config-id-unsupported": "mr-config-id",
  "compose-hash-mismatch": "compose-hash",
  "app-id-mismatch": "app-id",
  "instance-id-mismatch": "instance-id",
  "key-provider-malformed": "key-provider",
  "key-provider-mismatch": "key-provider",

  "required-check-not-run": "policy",
} as const satisfies Record<string, string>;

export type ReasonCode = keyof typeof REFUSAL_REASONS;
export type CheckId = (typeof REFUSAL_REASONS)[ReasonCode];

/** The stable part of a refusal, as `verdict.reason` and the `reason` member of the problem show it. */
export interface RefusalReason {
  readonly code: ReasonCode;
  readonly check: CheckId;
  readonly detail: string;
}

/** An `attestation/refused` error. `detail` is shown to the caller: no secrets, no input over 100 characters. */
export function refusal(code: ReasonCode, detail: string, cause?: unknown): AppError {
  const reason: RefusalReason = { code, check: REFUSAL_REASONS[code], detail };
  return new AppError("attestation/refused", detail, { cause, fields: { reason } });
}

/** The reason inside a refusal, undefined for any other error. */
export function reasonOf(error: unknown): RefusalReason | undefined {
  if (!(error instanceof AppError) || error.code !== "attestation/refused") return undefined;
  return error.fields["reason"] as RefusalReason | undefined;
}

/**
 * Runs a parser over evidence; what it calls malformed input becomes a refusal of that code, and what
 * it calls unsupported one of the code `unsupported`.
 */
export function refusing<T>(code: ReasonCode, parse: () => T, unsupported: ReasonCode = code): T {
  try {
    return parse();
  } catch (error) {
    if (error instanceof AppError && error.code.startsWith("input/")) {
      const reason = error.code === "input/unsupported" ? unsupported : code;
      throw refusal(reason, error.message, error);
    }
    throw error;
  }
}
