import type { Verdict } from "#core/attestation/verdict.ts";
import type { Metrics } from "#core/http/metrics.ts";
import type { KmsDecision } from "#functions/db/kms-decisions.ts";

/** What a KMS counts beside the reference's two counters. Labels are codes, never ids of apps. */
export interface KmsMetrics {
  readonly decision: (row: KmsDecision) => void;
  /** `nowMs`: when it was appraised. */
  readonly verdict: (verdict: Verdict, nowMs: number) => void;
  readonly epoch: (newest: number) => void;
}

export function kmsMetrics(metrics: Metrics): KmsMetrics {
  const decisions = metrics.counter({
    name: "dstack_kms_decisions_total",
    help: "Decisions about keys and certificates",
    labels: ["method", "outcome", "reason"],
  });
  const tcb = metrics.counter({
    name: "dstack_kms_tcb_status_total",
    help: "Appraised evidence by the TCB status of its platform",
    labels: ["status", "outcome"],
  });
  const collateralAge = metrics.gauge({
    name: "dstack_kms_collateral_age_seconds",
    help: "Age of the oldest part of the collateral used last",
  });
  const logEntries = metrics.gauge({
    name: "dstack_kms_log_entries",
    help: "Entries of the release log",
  });
  const block = metrics.gauge({
    name: "dstack_kms_chain_block_number",
    help: "Block of the newest decision that was read on chain",
  });
  const epochs = metrics.gauge({
    name: "dstack_kms_epoch",
    help: "Newest epoch of the root keys",
  });
  return {
    decision: ({ id, method, outcome, reason, blockNumber }) => {
      decisions.add(1, { method, outcome, reason });
      if (id > 0) logEntries.set(id);
      if (blockNumber !== null) block.set(blockNumber);
    },
    verdict: ({ tcb: level, outcome }, nowMs) => {
      tcb.add(1, { status: level?.status ?? "unknown", outcome });
      if (level === null || !("collateral" in level)) return; // AMD has none that ages
      const { validFrom } = level.collateral;
      collateralAge.set((nowMs - Date.parse(validFrom)) / 1000);
    },
    epoch: (newest) => epochs.set(newest),
  };
}
