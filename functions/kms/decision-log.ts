import type { Verdict } from "#core/attestation/verdict.ts";
import { AppError } from "#core/errors/app-error.ts";
import type { NewDecision } from "#functions/db/kms-decisions.ts";
import type { BootInfo } from "./boot-info.ts";
import type { DecidingPorts } from "./ports.ts";
import { decisionReason, denied } from "./reasons.ts";

/** What is known about the subject of a decision so far; it fills up while the decision is made. */
export interface DecisionSubject {
  /** Of the request, for who is asked about it. */
  readonly requestId?: string;
  verdict?: Verdict;
  boot?: BootInfo;
  /** What the auth service says decided, and at which block. */
  rule?: string;
  block?: { readonly number: number; readonly hash: string };
  /** The newest epoch of the keys about to be released. */
  epoch?: number;
  /** Set where there is no evidence: a certificate issued by hand. */
  appId?: string;
  /** Said in the row beside the outcome. */
  note?: string;
}

export interface DecisionRequest {
  readonly method: string;
  readonly requestId: string;
}

/**
 * Runs `decide` and records how it ended, as a row and a log line. What it returns is handed out only
 * after its row is stored: a release that nobody can see later does not happen.
 */
export async function recorded<T>(
  ports: Pick<DecidingPorts, "now" | "decisions" | "log">,
  request: DecisionRequest,
  decide: (subject: DecisionSubject) => Promise<T>,
): Promise<T> {
  const subject: DecisionSubject = { requestId: request.requestId };
  let result: T;
  try {
    result = await decide(subject);
  } catch (error) {
    const row = rowOf(ports.now(), request, subject, error);
    try {
      ports.log.decision({ ...row, id: await ports.decisions.append(row) });
    } catch (failure) {
      ports.log.decision({ ...row, id: 0 });
      ports.log.error("storing a denial", failure);
    }
    if (error instanceof AppError && error.code !== "internal") throw error;
    ports.log.error(request.method, error);
    throw new AppError("internal", "Unexpected failure", { cause: error });
  }
  const row = rowOf(ports.now(), request, subject);
  let id: number;
  try {
    id = await ports.decisions.append(row);
  } catch (cause) {
    ports.log.error("storing a release", cause);
    throw denied("kms/decision-log-unavailable", "The decision cannot be recorded", cause);
  }
  ports.log.decision({ ...row, id });
  return result;
}

function rowOf(
  now: Date,
  { method, requestId }: DecisionRequest,
  { verdict, boot, appId, note, rule, block, epoch }: DecisionSubject,
  error?: unknown,
): NewDecision {
  const { identity, tcb } = verdict ?? {};
  return {
    decidedAtMs: now.getTime(),
    requestId,
    method,
    outcome: error === undefined ? "released" : "denied",
    reason: error === undefined ? "" : decisionReason(error),
    detail: error === undefined ? note ?? "" : innermostMessage(error),
    tee: verdict?.tee ?? "",
    simulated: verdict?.simulated ?? false,
    trustAnchor: verdict?.trustAnchor?.name ?? "",
    appId: boot?.appId ?? identity?.appId ?? appId ?? "",
    instanceId: identity?.instanceId ?? "",
    composeHash: identity?.composeHash ?? "",
    deviceId: identity?.deviceId ?? "",
    osImageHash: identity?.osImageHash ?? "",
    mrSystem: identity?.mrSystem ?? "",
    mrAggregated: identity?.mrAggregated ?? "",
    tcbStatus: tcb?.status ?? "",
    advisoryIds: tcb?.advisoryIds ?? [],
    evidenceDigest: verdict?.evidenceDigest ?? "",
    rule: rule ?? "",
    epoch: error === undefined ? epoch ?? 0 : 0,
    blockNumber: block?.number ?? null,
    blockHash: block?.hash ?? "",
  };
}

/** The most specific text that callers may see. */
function innermostMessage(error: unknown): string {
  let message = "Unexpected failure";
  for (let e = error; e instanceof AppError; e = e.cause) message = e.message;
  return message.slice(0, 512);
}
