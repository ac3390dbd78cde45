import type { VendorDocuments } from "#core/attestation/appraise.ts";
import type { Attestation } from "#core/attestation/attestation.ts";
import type { Reference } from "#core/attestation/reference.ts";
import type { TrustAnchor } from "#core/attestation/trust-anchor.ts";
import type { Verdict } from "#core/attestation/verdict.ts";
import type { CryptoProvider } from "#core/crypto/crypto-provider.ts";
import type { Metrics } from "#core/http/metrics.ts";
import type { AppVersion } from "#core/http/operations.ts";
import type { QuoteCollateral } from "#core/tdx/collateral.ts";
import type { EndorsementCache } from "#core/tdx/endorsement-cache.ts";
import type { Quote } from "#core/tdx/quote.ts";

/** What an appraisal needs of the world. */
export interface AppraisalPorts {
  readonly now: () => Date;
  /** From the configuration; nothing in a request adds to them. */
  readonly trustAnchors: readonly TrustAnchor[];
  /** From the configured PCCS, perhaps cached. */
  readonly collateralFor: (quote: Quote) => Promise<QuoteCollateral>;
  /** What AMD or Google publish about evidence that does not bring it; undefined when nothing is missing. */
  readonly vendorDocumentsFor: (attestation: Attestation) => Promise<VendorDocuments | undefined>;
  /** What VMs of an OS image measure, for CVMs that do not bring it; absent where no images are kept. */
  readonly registersOf?: Reference["registersOf"];
  readonly crypto: CryptoProvider;
  readonly endorsements: EndorsementCache;
}

export interface VerifierPorts extends AppraisalPorts {
  /** The verify page, one HTML document with all it needs inside; absent where none is served. */
  readonly page?: string | undefined;
  readonly logVerdict: (verdict: Verdict) => void;
  readonly logError: (error: unknown) => void;
  readonly metrics: Metrics;
  readonly version: AppVersion;
}
