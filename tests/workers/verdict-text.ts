import { appraise } from "#core/attestation/appraise.ts";
import { parseTrustAnchor, VENDOR_TRUST_ANCHORS } from "#core/attestation/trust-anchor.ts";
import { encodeVerdict } from "#core/attestation/verdict.ts";
import { AppError } from "#core/errors/app-error.ts";
import { parseVerificationRequest } from "#functions/verifier/request.ts";

/** One appraisal as text: what runs on every runtime, to be compared byte for byte. */
export interface Appraisal {
  /** The body of `POST /v1/verify`, with its time. */
  readonly request: string;
  /** PEM of the root to trust; null for the vendors'. */
  readonly root: string | null;
}

/** The verdict's JSON, or the code of the error for a request that cannot be read. */
export async function verdictText({ request, root }: Appraisal): Promise<string> {
  try {
    const parsed = parseVerificationRequest(request);
    const trustAnchors = root === null ? VENDOR_TRUST_ANCHORS : [parseTrustAnchor("own", root)];
    return encodeVerdict(await appraise({ ...parsed, now: parsed.time!, trustAnchors }));
  } catch (error) {
    if (error instanceof AppError) return `${error.code}: ${error.message}`;
    throw error;
  }
}

export async function verdictTexts(all: readonly Appraisal[]): Promise<string[]> {
  const texts: string[] = [];
  for (const one of all) texts.push(await verdictText(one));
  return texts;
}
