import type { Verdict } from "#core/attestation/verdict.ts";

/** What a log line says about a verdict: enough to find the evidence and the reason again. */
export function verdictFacts(verdict: Verdict): Record<string, unknown> {
  const { outcome, reason, simulated, tee, identity, tcb, trustAnchor, evidenceDigest } = verdict;
  return {
    outcome,
    reason: reason?.code ?? "",
    simulated,
    tee,
    app_id: identity?.appId ?? "",
    instance_id: identity?.instanceId ?? "",
    compose_hash: identity?.composeHash ?? "",
    os_image_hash: identity?.osImageHash ?? "",
    tcb_status: tcb?.status ?? "",
    trust_anchor: trustAnchor?.name ?? "",
    evidence_digest: evidenceDigest,
  };
}
