import { sha256 } from "@noble/hashes/sha2.js";
import { appInfoOf } from "#core/attestation/app-info.ts";
import { appraise } from "#core/attestation/appraise.ts";
import type { Attestation } from "#core/attestation/attestation.ts";
import { DEFAULT_POLICY, type Policy } from "#core/attestation/policy.ts";
import type { Reference } from "#core/attestation/reference.ts";
import type { TrustAnchor } from "#core/attestation/trust-anchor.ts";
import type { Verdict } from "#core/attestation/verdict.ts";
import { encodeAttestation } from "#core/attestation/versioned-attestation.ts";
import { toHex } from "#core/bytes/bytes.ts";
import type { CryptoProvider } from "#core/crypto/crypto-provider.ts";
import { AppError } from "#core/errors/app-error.ts";
import { refusal } from "#core/errors/refusal.ts";
import type { QuoteCollateral } from "#core/tdx/collateral.ts";
import type { EndorsementCache } from "#core/tdx/endorsement-cache.ts";
import { parseQuote, type Quote } from "#core/tdx/quote.ts";
import { TCB_STATUSES } from "#core/tdx/tcb-status.ts";
import type { Appraise } from "./ports.ts";

export interface AppraiserOptions {
  readonly now: () => Date;
  readonly trustAnchors: readonly TrustAnchor[];
  readonly collateralFor: (quote: Quote) => Promise<QuoteCollateral>;
  readonly crypto: CryptoProvider;
  readonly endorsements: EndorsementCache;
  /** core.image.verify: whether the registers must be those of the image named. */
  readonly verifyImage: boolean;
  /** What VMs of an image measure, for CVMs that do not bring it; undefined where no images are kept. */
  readonly registersOf: Reference["registersOf"];
  /** DER SubjectPublicKeyInfo of this KMS's root CA; undefined before there is one. */
  readonly rootPublicKey: Uint8Array | undefined;
}

/**
 * Appraises callers with the project's one verifier. TCB status and advisories are left to the auth
 * API, which is told of them; an absent MRCONFIGID is accepted, as the reference's KMS does: identity
 * then rests on RTMR3 alone. GPUs may run with developer tools where the app's own compose file, which the
 * auth API allows or not, asked for them: the guest would not have started otherwise.
 */
export function createAppraiser(options: AppraiserOptions): Appraise {
  const policy: Policy = {
    ...DEFAULT_POLICY,
    allowedTcbStatuses: TCB_STATUSES.filter((status) => status !== "Revoked"),
    allowedAdvisories: "any",
    allowGpuDevtools: true,
    required: [
      ...DEFAULT_POLICY.required.filter((id) =>
        id !== "mr-config-id" && (id !== "os-image" || options.verifyImage)
      ),
      "report-data",
    ],
  };
  const image: Reference = options.verifyImage
    ? { registersOf: options.registersOf ?? refuseLegacy }
    : {};
  const keyProvider = options.rootPublicKey === undefined
    ? undefined
    : { name: "kms", id: toHex(options.rootPublicKey) };

  return async ({ attestation, expectedReportData, vmConfig, role, scope }) => {
    const { platform } = attestation;
    if (platform.kind !== "tdx") {
      throw new AppError(
        "input/unsupported",
        `Evidence of kind ${platform.kind} is not supported yet`,
        { fields: { reason: "evidence-unsupported" } },
      );
    }
    const collateral = await options.collateralFor(quoteOf(platform.quote));
    const verdict = await appraise({
      attestation: withConfig(attestation, vmConfig),
      collateral,
      trustAnchors: options.trustAnchors,
      // An app has its keys from this KMS or none yet; a KMS has its own from elsewhere.
      reference: role === "app" && keyProvider !== undefined ? { ...image, keyProvider } : image,
      policy,
      now: options.now(),
      crypto: options.crypto,
      endorsements: options.endorsements,
      expectedReportData,
    });
    const evidenceDigest = toHex(sha256(encodeAttestation(attestation)));
    return {
      ...(scope === "boot-time" ? atBootTime(verdict, attestation) : verdict),
      evidenceDigest,
    };
  };
}

/** The legacy variant's registers need the image itself and its ACPI tables. */
function refuseLegacy(): Promise<never> {
  return Promise.reject(refusal(
    "os-image-unknown",
    "This KMS keeps no OS images to measure (core.image.download_url): " +
      "launch the CVM with its measurement document (tdx_attestation_variant lite)",
  ));
}

function quoteOf(bytes: Uint8Array): Quote {
  try {
    return parseQuote(bytes);
  } catch (cause) {
    if (!(cause instanceof AppError)) throw cause;
    throw refusal("evidence-malformed", cause.message, cause);
  }
}

/** The request's VM configuration, where there is one, stands for the guest's own. */
function withConfig(attestation: Attestation, vmConfig: string): Attestation {
  if (vmConfig === "") return attestation;
  return { ...attestation, stack: { ...attestation.stack, config: vmConfig } };
}

function atBootTime(verdict: Verdict, attestation: Attestation): Verdict {
  if (verdict.identity === null) return verdict;
  const { mrSystem, mrAggregated } = appInfoOf(attestation, { bootTime: true });
  return {
    ...verdict,
    identity: {
      ...verdict.identity,
      mrSystem: toHex(mrSystem),
      mrAggregated: toHex(mrAggregated),
      keyProvider: null,
    },
  };
}
