import { AppError } from "#core/errors/app-error.ts";
import type { BootAnswer } from "./auth-api.ts";
import { reasonOf } from "#core/errors/refusal.ts";

/**
 * Stable codes of decisions, beside those of refused evidence (core/errors/refusal.ts). Backends of
 * the auth API say why in words; these are the words of the known ones (kms.md 6.4, 6.5, 7.2, 7.3).
 */
const AUTH_REASONS: Readonly<Record<string, string>> = {
  "tcb status is not allowed": "auth/tcb-status-not-allowed",
  "tcb status is not up to date": "auth/tcb-status-not-allowed",
  "advisory id is not allowed": "auth/advisory-not-allowed",
  "os image is not allowed": "auth/os-image-not-allowed",
  "os image not allowed": "auth/os-image-not-allowed",
  "aggregated mr not allowed": "auth/mr-aggregated-not-allowed",
  "kms mraggregated not allowed": "auth/mr-aggregated-not-allowed",
  "kms is not allowed to boot on this device": "auth/device-not-allowed",
  "app is not allowed to boot on this device": "auth/device-not-allowed",
  "device not allowed": "auth/device-not-allowed",
  "app not registered": "auth/app-not-registered",
  "app not deployed or invalid address": "auth/app-not-registered",
  "compose hash not allowed": "auth/compose-hash-not-allowed",
  "authorization backend unavailable": "auth/unavailable",
};

/** The code of a backend's denial; `auth/denied` for words of an unknown one. */
export function authReasonCode({ reason, code }: Pick<BootAnswer, "reason" | "code">): string {
  if (code !== undefined && code.startsWith("auth/") && TRANSIENT_REASONS.has(code)) return code;
  const key = reason.trim().toLowerCase();
  return Object.hasOwn(AUTH_REASONS, key) ? AUTH_REASONS[key]! : "auth/denied";
}

/** The code a decision is recorded under when `error` ended it. */
export function decisionReason(error: unknown): string {
  for (let e = error; e instanceof Error; e = e.cause) {
    const refused = reasonOf(e);
    if (refused !== undefined) return refused.code;
    if (e instanceof AppError && typeof e.fields["reason"] === "string") return e.fields["reason"];
  }
  return error instanceof AppError ? error.code : "internal";
}

/** What passes by itself: callers may ask again, where any other refusal is a decision. */
const TRANSIENT_REASONS: ReadonlySet<string> = new Set([
  "auth/unavailable",
  "auth/timeout",
  "auth/circuit-open",
  "auth/invalid-answer",
  "auth/allowlist-invalid",
  "auth/allowlist-stale",
  "auth/chain-unavailable",
  "auth/chain-stale",
  "auth/chain-endpoints-disagree",
  "auth/chain-wrong-chain",
  "collateral-unavailable",
  "kms/decision-log-unavailable",
  "kms/epoch-missing",
  "self/unavailable",
]);

/** Why the auth API could not be asked. */
export function authFailureCode(cause: unknown): string {
  if (!(cause instanceof AppError)) return "auth/unavailable";
  if (cause.code === "upstream/invalid") return "auth/invalid-answer";
  const { reason } = cause.fields;
  return reason === "timeout" || reason === "circuit-open" ? `auth/${reason}` : "auth/unavailable";
}

/**
 * A refusal with its stable reason code: `kms/not-ready` where it may pass by itself, else
 * `kms/denied`. `message` is shown to the caller, and `remedy` says what would change it.
 */
export function denied(
  reason: string,
  message: string,
  cause?: unknown,
  remedy = remedyOf(cause),
): AppError {
  const code = TRANSIENT_REASONS.has(reason) ? "kms/not-ready" : "kms/denied";
  const fields = { reason, ...remedy !== undefined && { remedy } };
  return new AppError(code, message, { cause, fields });
}

/** What the innermost refusal that knows says would change it. */
function remedyOf(cause: unknown): string | undefined {
  const remedy = cause instanceof AppError ? cause.fields["remedy"] : undefined;
  return typeof remedy === "string" ? remedy : undefined;
}
