import { requireAccepted, type Verdict } from "#core/attestation/verdict.ts";
import { fromHex } from "#core/bytes/bytes.ts";
import { AppError } from "#core/errors/app-error.ts";
import { reasonOf } from "#core/errors/refusal.ts";
import type { BootAnswer, BootRole } from "./auth-api.ts";
import { type BootInfo, bootInfoOf } from "./boot-info.ts";
import type { DecisionSubject } from "./decision-log.ts";
import { requireAppRate } from "./limits.ts";
import type { AppraisalRequest, DecidingPorts, KmsPolicy } from "./ports.ts";
import { authFailureCode, authReasonCode, decisionReason, denied } from "./reasons.ts";

/** A VM that may have what it asked for. */
export interface Authorized {
  readonly verdict: Verdict;
  readonly boot: BootInfo;
  readonly gatewayAppId: string;
  /** 20 bytes. */
  readonly appId: Uint8Array;
  /** 20 bytes or empty. */
  readonly instanceId: Uint8Array;
}

/**
 * Appraises the evidence, then asks the auth API, then the local gate. Every way to fail throws
 * `kms/denied` with a reason code, and with `subject` saying what was learned until then.
 */
export async function authorize(
  ports: DecidingPorts,
  request: AppraisalRequest,
  subject: DecisionSubject,
): Promise<Authorized> {
  const verdict = await appraised(ports, request, subject);
  const boot = bootInfoOf(verdict, request.attestation, request.scope);
  subject.boot = boot;
  requireAppRate(ports.limits, boot.appId);
  const answer = await asked(ports, request.role, boot, subject);
  requireKeyRelease(verdict.tee, ports.policy);
  return {
    verdict,
    boot,
    gatewayAppId: answer.gatewayAppId,
    appId: fromHex(boot.appId, "app_id", 20),
    instanceId: fromHex(boot.instanceId, "instance_id"),
  };
}

/** Some TEEs get keys only where the operator of this KMS switched them on. */
export function requireKeyRelease(tee: Verdict["tee"] | undefined, policy: KmsPolicy): void {
  if (tee === "dstack-amd-sev-snp" && !policy.sevSnpKeyRelease) {
    throw denied("gate/sev-snp-disabled", "amd sev-snp key release is not enabled");
  }
  if (tee === "dstack-aws-nitro-tpm" && !policy.awsNitroTpmKeyRelease) {
    throw denied("gate/aws-nitro-tpm-disabled", "aws nitro-tpm key release is not enabled");
  }
}

async function appraised(
  ports: DecidingPorts,
  request: AppraisalRequest,
  subject: DecisionSubject,
): Promise<Verdict> {
  let verdict: Verdict;
  try {
    verdict = await ports.appraise(request);
  } catch (cause) {
    if (!(cause instanceof AppError)) throw cause;
    const missing = cause.code.startsWith("upstream/");
    const reason = missing ? "collateral-unavailable" : decisionReason(cause);
    throw denied(reason, "Quote verification failed", cause);
  }
  subject.verdict = verdict;
  try {
    return requireAccepted(verdict);
  } catch (cause) {
    const image = reasonOf(cause)?.check === "os-image";
    throw denied(
      decisionReason(cause),
      image ? "Failed to verify os image hash" : "Quote verification failed",
      cause,
    );
  }
}

async function asked(
  ports: DecidingPorts,
  role: BootRole,
  boot: BootInfo,
  subject: DecisionSubject,
): Promise<BootAnswer> {
  let answer: BootAnswer;
  try {
    answer = await ports.authApi.authorize(role, boot, subject.requestId);
  } catch (cause) {
    ports.log.error("asking the auth API", cause);
    throw denied(authFailureCode(cause), "Boot denied", cause);
  }
  if (answer.rule !== undefined) subject.rule = answer.rule;
  if (answer.block !== undefined) subject.block = answer.block;
  if (answer.isAllowed) return answer;
  throw denied(authReasonCode(answer), `Boot denied: ${answer.reason}`, undefined, answer.remedy);
}
