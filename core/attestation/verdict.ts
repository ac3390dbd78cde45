import { AppError } from "../errors/app-error.ts";
import type { CheckId, RefusalReason } from "../errors/refusal.ts";
import type { SnpTcb } from "../sev-snp/product.ts";
import type { TeeVariant } from "./attestation.ts";

export type { CheckId, ReasonCode, RefusalReason } from "../errors/refusal.ts";

export const VERDICT_SCHEMA = "dstack-edge/verdict/v1";

/** The checks in the order they run; an id means the same on every TEE. */
export const CHECK_IDS = [
  "evidence-format",
  "collateral-validity",
  "signature-chain",
  "revocation",
  "evidence-freshness",
  "platform-match",
  "tcb-status",
  "tcb-advisories",
  "debug-disabled",
  "tee-attributes",
  "tpm-quote",
  "report-data",
  "event-log-replay",
  "launch-events",
  "gpu-attestation",
  "os-image",
  "acpi-tables",
  "mr-config-id",
  "compose-hash",
  "app-id",
  "instance-id",
  "key-provider",
  "policy",
] as const satisfies readonly CheckId[];

/**
 * `not-applicable`: this TEE or this evidence has nothing to check. `not-checked`: it could have been
 * checked, but the caller gave no reference, or an earlier failure left nothing to check against.
 */
export type CheckResult = "passed" | "failed" | "not-applicable" | "not-checked";

export interface Check {
  readonly id: CheckId;
  readonly result: CheckResult;
  /** One sentence for a person. */
  readonly detail: string;
}

/** A dstack CVM by its platform, or a quote by itself. */
export type VerdictTee = TeeVariant | "intel-tdx" | "intel-sgx";

/** Who the evidence says it is. All hex, lower case; proven only when the outcome is `accepted`. */
export interface VerdictIdentity {
  readonly appId: string;
  readonly composeHash: string;
  /** Empty when the app has none. */
  readonly instanceId: string;
  /** Empty when the platform could not be verified. */
  readonly deviceId: string;
  readonly osImageHash: string;
  readonly mrSystem: string;
  readonly mrAggregated: string;
  readonly keyProvider: { readonly name: string; readonly id: string } | null;
  readonly initScriptHashes: readonly string[];
}

/** The platform's patch level; what else is known about it differs between vendors. */
export type VerdictTcb = IntelTcb | AmdTcb;

export interface IntelTcb {
  /** Intel's words; platform, TDX module and quoting enclave merged. */
  readonly status: string;
  readonly advisoryIds: readonly string[];
  readonly platformStatus: string;
  readonly quotingEnclaveStatus: string;
  /** When the matched level was published, RFC 3339. */
  readonly levelDate: string;
  readonly evaluationDataNumber: number;
  readonly fmspc: string;
  readonly collateral: {
    /** The window in which every part of the collateral holds, RFC 3339. */
    readonly validFrom: string;
    readonly validUntil: string;
  };
}

export interface AmdTcb {
  /** `UpToDate` when all four TCBs are one, else `OutOfDate`. */
  readonly status: string;
  /** AMD's certificates name none. */
  readonly advisoryIds: readonly string[];
  /** With the stepping, such as `Milan-B0`. */
  readonly product: string;
  /** What signed the report: the chip's own key or one lent to a cloud. */
  readonly signingKey: string;
  /** Security versions: what the platform reports, runs, cannot go back from, launched the guest with. */
  readonly reported: SnpTcb;
  readonly current: SnpTcb;
  readonly committed: SnpTcb;
  readonly launch: SnpTcb;
}

export interface Verdict {
  readonly schema: typeof VERDICT_SCHEMA;
  readonly tee: VerdictTee;
  /** True when the evidence hangs on a simulated trust anchor: it proves nothing about hardware. */
  readonly simulated: boolean;
  readonly outcome: "accepted" | "refused";
  /** The first reason of a refusal; null when accepted. */
  readonly reason: RefusalReason | null;
  readonly checks: readonly Check[];
  readonly identity: VerdictIdentity | null;
  readonly tcb: VerdictTcb | null;
  /** Registers by their name on this TEE, hex; null when the evidence could not be read. */
  readonly measurements: Readonly<Record<string, string>> | null;
  /** Hex; what the evidence binds. Meaningful to a caller who made the challenge. */
  readonly reportData: string | null;
  readonly trustAnchor: { readonly name: string; readonly simulated: boolean } | null;
  /** The time the verdict holds for, RFC 3339 with seconds. */
  readonly evaluatedAt: string;
  /** SHA-256, hex, of the attestation in its container form (`encodeAttestation`), or of the quote. */
  readonly evidenceDigest: string;
}

/** Throws `attestation/refused`, with the verdict's reason, unless the evidence was accepted. */
export function requireAccepted(verdict: Verdict): Verdict {
  if (verdict.outcome === "accepted") return verdict;
  const { reason } = verdict;
  throw new AppError("attestation/refused", reason?.detail ?? "The evidence was refused", {
    fields: { reason },
  });
}

/** The JSON text of a verdict: members in the order of the type, the same bytes on every runtime. */
export function encodeVerdict(verdict: Verdict): string {
  return JSON.stringify(verdict);
}
