import { appraise } from "#core/attestation/appraise.ts";
import { QUOTE_POLICY } from "#core/attestation/policy.ts";
import type { TrustAnchor } from "#core/attestation/trust-anchor.ts";
import { AppError } from "#core/errors/app-error.ts";
import type { FetchLike } from "#core/http/fetch-like.ts";
import type { BoundEvidence } from "#core/ra-tls/peer.ts";
import { fetchCollateral } from "#core/tdx/pccs-client.ts";
import { parseQuote } from "#core/tdx/quote.ts";

export interface KmsEvidencePorts {
  /** Base of the collateral service, from the host: what it serves is signed. */
  readonly pccsUrl: string | undefined;
  readonly fetch: FetchLike;
  readonly trustAnchors: readonly TrustAnchor[];
  readonly now: () => Date;
}

/**
 * Appraises the evidence in a KMS's certificate: genuine hardware, and bound to the key of this
 * connection. Which KMS it is the app pins by key_provider_id. Throws `guest/kms-untrusted`.
 */
export async function verifyKmsEvidence(
  { attestation, expectedReportData }: BoundEvidence,
  ports: KmsEvidencePorts,
): Promise<void> {
  const { platform } = attestation;
  if (platform.kind !== "tdx" || ports.pccsUrl === undefined) {
    throw new AppError(
      "guest/kms-untrusted",
      platform.kind === "tdx"
        ? "The host names no collateral service to check the KMS's attestation with"
        : `The KMS's attestation is of kind ${platform.kind}, which cannot be checked here`,
    );
  }
  const verdict = await appraise({
    attestation,
    collateral: await fetchCollateral(parseQuote(platform.quote), {
      baseUrl: ports.pccsUrl,
      fetch: ports.fetch,
    }),
    trustAnchors: ports.trustAnchors,
    policy: QUOTE_POLICY,
    now: ports.now(),
    expectedReportData,
  });
  if (verdict.outcome !== "accepted") {
    const failed = verdict.checks.find(({ result }) => result === "failed");
    throw new AppError(
      "guest/kms-untrusted",
      `The KMS's attestation is refused: ${failed?.detail ?? failed?.id ?? "incomplete"}`,
    );
  }
}
