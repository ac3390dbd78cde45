import type { TcbStatus } from "../tdx/tcb-status.ts";
import type { Reference } from "./reference.ts";
import type { CheckId } from "./verdict.ts";

/**
 * What a relying party insists on. Every default is the strict choice; a check that ran and failed
 * refuses the evidence whether or not it is required.
 */
export interface Policy {
  /** TCB statuses that pass. Revoked never does. */
  readonly allowedTcbStatuses: readonly TcbStatus[];
  /** Advisories that may apply to the platform, by id; `any` for all. */
  readonly allowedAdvisories: readonly string[] | "any";
  /** Intel's TCB recovery counter that collateral must have reached; 0 for any. */
  readonly minEvaluationDataNumber: number;
  /** Seconds by which collateral may be past its nextUpdate. */
  readonly collateralGraceSeconds: number;
  /** Seconds since collateral was issued, whatever its nextUpdate says; undefined for any. */
  readonly maxCollateralAgeSeconds?: number;
  /** Whether an SEV-SNP report may be signed with a key lent to a cloud (VLEK) instead of the chip's. */
  readonly allowVlek: boolean;
  /** Whether GPUs may run with developer tools that can read their memory. */
  readonly allowGpuDevtools: boolean;
  /**
   * Checks that must have passed; not-checked and not-applicable are not enough. Only a check for which a
   * TEE has nothing in any evidence falls away on that TEE (docs/verdict.md says which).
   */
  readonly required: readonly CheckId[];
}

/** The hardware part: true of a bare quote, without a word about what runs. */
const HARDWARE_CHECKS = [
  "evidence-format",
  "collateral-validity",
  "signature-chain",
  "evidence-freshness",
  "platform-match",
  "tcb-status",
  "tcb-advisories",
  "debug-disabled",
  "tee-attributes",
  "tpm-quote",
] as const satisfies readonly CheckId[];

/** What a whole CVM must have passed besides. */
export const CVM_CHECKS = [
  "event-log-replay",
  "launch-events",
  "os-image",
  "mr-config-id",
] as const satisfies readonly CheckId[];

/** For a whole dstack CVM: which image, which configuration, which app. */
export const DEFAULT_POLICY: Policy = {
  allowedTcbStatuses: ["UpToDate"],
  allowedAdvisories: [],
  minEvaluationDataNumber: 0,
  collateralGraceSeconds: 0,
  allowVlek: false,
  allowGpuDevtools: false,
  required: [...HARDWARE_CHECKS, ...CVM_CHECKS],
};

/** For a bare quote: the caller judges the registers in the verdict. */
export const QUOTE_POLICY: Policy = { ...DEFAULT_POLICY, required: HARDWARE_CHECKS };

/** The default policy with what a caller changes; `require` adds checks to the required ones. */
export function policyWith(
  changes: Partial<Policy> & { readonly require?: readonly CheckId[] },
  base: Policy = DEFAULT_POLICY,
): Policy {
  const { require = [], ...rest } = changes;
  const required = [...new Set([...(rest.required ?? base.required), ...require])];
  return { ...base, ...rest, required };
}

/**
 * The checks that compare with what a caller expects. Whoever names an expectation wants it met: these
 * belong into `require`, so that evidence which says nothing about it is refused as well.
 */
export function checksOf(
  reference: Reference,
  expectedReportData: Uint8Array | undefined,
): CheckId[] {
  const expectations: readonly (readonly [CheckId, unknown])[] = [
    ["report-data", expectedReportData],
    ["os-image", reference.osImageHashes],
    ["compose-hash", reference.composeHash],
    ["app-id", reference.appId],
    ["instance-id", reference.instanceId],
    ["key-provider", reference.keyProvider],
  ];
  return expectations.filter(([, expected]) => expected !== undefined).map(([id]) => id);
}
