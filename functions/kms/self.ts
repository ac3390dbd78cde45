import { decodeAttestation } from "#core/attestation/versioned-attestation.ts";
import { requireAccepted, type Verdict } from "#core/attestation/verdict.ts";
import type { Attestation } from "#core/attestation/attestation.ts";
import { AppError } from "#core/errors/app-error.ts";
import { bootInfoOf } from "./boot-info.ts";
import type { BootAnswer } from "./auth-api.ts";
import type { DecidingPorts } from "./ports.ts";
import { authReasonCode, decisionReason, denied } from "./reasons.ts";

/** Attested again after this, so that a status of its platform that got worse is seen. */
const MAX_AGE_MS = 3_600_000;

export interface SelfAppraisal {
  readonly verdict: Verdict;
  readonly attestation: Attestation;
}

/**
 * Whether this KMS itself may run: it attests to itself and asks the auth API each time. A KMS that
 * was moved to a platform or an image nobody allowed then gives out nothing.
 */
export class SelfAuthorization {
  readonly #ports: DecidingPorts;
  #appraisal: { readonly at: number; readonly result: Promise<SelfAppraisal> } | undefined;

  constructor(ports: DecidingPorts) {
    this.#ports = ports;
  }

  /** Throws `kms/denied`, unless self-authorisation is switched off. */
  async ensureAllowed(): Promise<void> {
    const { policy, authApi } = this.#ports;
    if (!policy.enforceSelfAuthorization) return;
    const failed = "KMS self authorization failed";
    let answer;
    try {
      const { verdict, attestation } = await this.appraisal();
      answer = await authApi.authorize("kms", bootInfoOf(verdict, attestation, "runtime"));
    } catch (cause) {
      throw selfFailure(failed, cause);
    }
    if (answer.isAllowed) return;
    throw denied(authReasonCode(answer), failed, notAllowed(answer));
  }

  /** Refuses what the local gate of the KMS's own TEE does not release. */
  async tee(): Promise<Verdict["tee"] | undefined> {
    if (!this.#ports.policy.enforceSelfAuthorization) return undefined;
    return (await this.appraisal()).verdict.tee;
  }

  /** The verdict about this KMS. Throws when there is no agent or its evidence is refused. */
  appraisal(): Promise<SelfAppraisal> {
    const at = this.#ports.now().getTime();
    if (this.#appraisal === undefined || at - this.#appraisal.at > MAX_AGE_MS) {
      const result = this.#appraise();
      this.#appraisal = { at, result };
      result.catch(() => this.#appraisal = undefined); // whoever awaits it learns why; ask anew
    }
    return this.#appraisal.result;
  }

  async #appraise(): Promise<SelfAppraisal> {
    const { self, appraise } = this.#ports;
    if (self === undefined) {
      throw new AppError("kms/not-ready", "No guest agent: this KMS does not run in a CVM");
    }
    const expectedReportData = new Uint8Array(64);
    const attestation = decodeAttestation(await self.attest(expectedReportData));
    const vmConfig = await self.vmConfig();
    const verdict = requireAccepted(
      await appraise({
        attestation,
        expectedReportData,
        vmConfig,
        role: "kms",
        scope: "runtime",
      }),
    );
    return { verdict, attestation };
  }
}

/** Why this KMS could not show that it may run; what was not expected passes unchanged. */
export function selfFailure(message: string, cause: unknown): unknown {
  if (!(cause instanceof AppError)) return cause;
  const passes = cause.code === "kms/not-ready" || cause.code.startsWith("upstream/");
  return denied(passes ? "self/unavailable" : decisionReason(cause), message, cause);
}

function notAllowed(answer: BootAnswer): AppError {
  const message = `KMS is not allowed: ${answer.reason}`;
  return denied(authReasonCode(answer), message, undefined, answer.remedy);
}
