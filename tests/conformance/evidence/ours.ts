import { hostCrypto } from "#adapters/crypto.ts";
import { appraise } from "#core/attestation/appraise.ts";
import { parseTrustAnchor } from "#core/attestation/trust-anchor.ts";
import { AppError } from "#core/errors/app-error.ts";
import { parseVerificationRequest, type VerificationRequest } from "#functions/verifier/request.ts";
import type { Answer, ConformanceCase } from "./case.ts";

/** What this project's verifier says. */
export async function ourAnswer({ id, request, root }: ConformanceCase): Promise<Answer> {
  let parsed: VerificationRequest;
  try {
    parsed = parseVerificationRequest(JSON.stringify(request));
  } catch (error) {
    if (error instanceof AppError && error.code.startsWith("input/")) {
      return { id, outcome: "unreadable" };
    }
    throw error;
  }
  const { outcome, reason, tcb } = await appraise({
    ...parsed,
    now: parsed.time!,
    trustAnchors: [parseTrustAnchor("case", root)],
    crypto: hostCrypto,
  });
  if (reason) return { id, outcome, reason: reason.code };
  return { id, outcome, ...(tcb && { status: tcb.status }) };
}
