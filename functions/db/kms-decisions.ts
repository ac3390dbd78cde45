import { sha256 } from "@noble/hashes/sha2.js";
import { concatBytes, fromHex, toHex, utf8 } from "#core/bytes/bytes.ts";
import { leafHash } from "#core/crypto/merkle-tree.ts";
import { canonicalJson } from "#core/encoding/jcs.ts";
import type { kmsDecisions } from "./kms-schema.ts";

/** A row as stored. */
export type ChainedDecision = typeof kmsDecisions.$inferSelect;
/** A decision without what chains it to the ones before. */
export type KmsDecision = Omit<ChainedDecision, "leafHash" | "chainHash">;
export type NewDecision = Omit<KmsDecision, "id">;

export interface DecisionFilter {
  /** At most this many rows. */
  readonly limit: number;
  /** Only rows with a smaller id: the next page. */
  readonly before?: number | undefined;
  readonly appId?: string | undefined;
  readonly outcome?: "released" | "denied" | undefined;
}

/** The JSON form of a decision: in the API, in log lines, and, in canonical form, as a leaf of the log. */
export function decisionToJson(row: KmsDecision) {
  return {
    id: row.id,
    decided_at: new Date(row.decidedAtMs).toISOString(),
    request_id: row.requestId,
    method: row.method,
    outcome: row.outcome,
    reason: row.reason,
    detail: row.detail,
    tee: row.tee,
    simulated: row.simulated,
    trust_anchor: row.trustAnchor,
    app_id: row.appId,
    instance_id: row.instanceId,
    compose_hash: row.composeHash,
    device_id: row.deviceId,
    os_image_hash: row.osImageHash,
    mr_system: row.mrSystem,
    mr_aggregated: row.mrAggregated,
    tcb_status: row.tcbStatus,
    advisory_ids: [...row.advisoryIds],
    evidence_digest: row.evidenceDigest,
    rule: row.rule,
    epoch: row.epoch,
    block_number: row.blockNumber,
    block_hash: row.blockHash,
  };
}

export type DecisionJson = ReturnType<typeof decisionToJson>;

/** The leaf hash of a decision's JSON form; 32 bytes. */
export function decisionLeafHash(decision: DecisionJson): Uint8Array {
  return leafHash(utf8(canonicalJson(decision)));
}

/** Before the first decision: 32 zero bytes, hex. */
export const CHAIN_START = "00".repeat(32);

/** The chain hash after a leaf; hex in, hex out. */
export function nextChainHash(chainHash: string, leaf: Uint8Array): string {
  return toHex(sha256(concatBytes(fromHex(chainHash, "chain hash", 32), leaf)));
}
