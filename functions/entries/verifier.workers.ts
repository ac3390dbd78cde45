import { z } from "zod";
import { AppError, errorChain } from "#core/errors/app-error.ts";
import { problemResponse } from "#core/errors/problem.ts";
import { fetchVendorDocuments } from "#core/attestation/vendor-documents.ts";
import { cachingFetch } from "#core/http/caching-fetch.ts";
import type { FetchLike } from "#core/http/fetch-like.ts";
import { noMetrics } from "#core/http/metrics.ts";
import { AMD_KDS_URL } from "#core/sev-snp/kds-client.ts";
import { CollateralCache } from "#core/tdx/collateral-cache.ts";
import { DEFAULT_PCCS_URL, fetchCollateral } from "#core/tdx/pccs-client.ts";
import { serviceTrustAnchors } from "#functions/attestation/trust-anchors.ts";
import { webCrypto } from "#core/crypto/crypto-provider.ts";
import { EndorsementCache } from "#core/tdx/endorsement-cache.ts";
import { createVerifierApp } from "#functions/verifier/app.ts";
import { verdictFacts } from "#functions/verifier/verdict-facts.ts";
import manifest from "../../package.json" with { type: "json" };

const MAX_AGE_MS = 3_600_000;
const TIMEOUT_MS = 30_000;
/** Certificates and revocation lists of AMD and Google, near 2 KiB each. */
const MAX_VENDOR_DOCUMENTS = 256;
const MAX_VENDOR_DOCUMENT_BYTES = 256 * 1024;

/** Bindings: what verifier.toml says elsewhere, as text. Others belong to whoever deploys. */
const bindingsSchema = z.object({
  PCCS_URL: z.string().default(DEFAULT_PCCS_URL),
  AMD_KDS_URL: z.string().default(AMD_KDS_URL),
  /** PEM of the root to trust for TDX instead of Intel's. */
  TDX_ROOT_CA: z.string().optional(),
  /** `true` or nothing happens with TDX_ROOT_CA. */
  INSECURE_ALLOW_EXTERNAL_TRUST_ANCHORS: z.enum(["true", "false"]).default("false"),
  EXTERNAL_ROOTS_SIMULATED: z.enum(["true", "false"]).default("true"),
  /** `git:<20 hex>`. */
  REVISION: z.string().default("unknown"),
});

function createApp(env: unknown) {
  const bindings = bindingsSchema.safeParse(env);
  if (!bindings.success) {
    const faults = bindings.error.issues.map(({ path, message }) =>
      `${path.join(".")}: ${message}`
    );
    throw new AppError("config/invalid", `Cannot use bindings: ${faults.join("; ")}`);
  }
  const { data } = bindings;
  if (data.TDX_ROOT_CA !== undefined && data.INSECURE_ALLOW_EXTERNAL_TRUST_ANCHORS !== "true") {
    throw new AppError(
      "config/invalid",
      "Cannot use bindings: TDX_ROOT_CA needs INSECURE_ALLOW_EXTERNAL_TRUST_ANCHORS = true",
    );
  }
  const now = () => new Date();
  const send: FetchLike = (url, { body: _none, ...init }) =>
    fetch(url, { ...init, redirect: "manual" });
  const collateral = new CollateralCache({
    fetch: (quote) =>
      fetchCollateral(quote, {
        baseUrl: data.PCCS_URL,
        fetch: send,
        timeoutMs: TIMEOUT_MS,
      }),
    now,
    maxAgeMs: MAX_AGE_MS,
    sharesFetches: false,
    logError: (what, error) => logLine("error", { message: what, error: errorChain(error) }),
  });
  const vendors = {
    amdKdsUrl: data.AMD_KDS_URL,
    fetch: cachingFetch({
      fetch: send,
      now,
      maxAgeMs: MAX_AGE_MS,
      maxEntries: MAX_VENDOR_DOCUMENTS,
      maxBytes: MAX_VENDOR_DOCUMENT_BYTES,
    }),
  };
  return createVerifierApp({
    now,
    trustAnchors: serviceTrustAnchors(
      data.TDX_ROOT_CA === undefined ? {} : { tdx: data.TDX_ROOT_CA },
      data.EXTERNAL_ROOTS_SIMULATED === "true",
    ),
    collateralFor: (quote) => collateral.get(quote),
    vendorDocumentsFor: (attestation) => fetchVendorDocuments(attestation, vendors),
    crypto: webCrypto,
    endorsements: new EndorsementCache(),
    logVerdict: (verdict) => logLine("info", { message: "verdict", ...verdictFacts(verdict) }),
    logError: (error) => logLine("error", { message: "answering", error: errorChain(error) }),
    metrics: noMetrics,
    version: { version: manifest.version, rev: data.REVISION },
  });
}

function logLine(level: "info" | "error", facts: Record<string, unknown>): void {
  // deno-lint-ignore no-console
  console[level](JSON.stringify({ program: "verifier", level, ...facts }));
}

let app: ReturnType<typeof createApp> | undefined;

/** The verifier on Cloudflare Workers; it needs no compatibility flag. */
export default {
  fetch(request: Request, env: unknown): Response | Promise<Response> {
    try {
      app ??= createApp(env);
    } catch (error) {
      logLine("error", { message: "starting", error: errorChain(error) });
      return problemResponse(new Error("not configured"));
    }
    return app.fetch(request);
  },
};
