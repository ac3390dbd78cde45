import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";
import { getLogger } from "@logtape/logtape";
import { loadConfig } from "#adapters/config.ts";
import { readFileIfExists } from "#adapters/files.ts";
import { serveHttp } from "#adapters/http-server.ts";
import { configureLogging } from "#adapters/logging.ts";
import { createPrometheusMetrics } from "#adapters/metrics.ts";
import { makeWebFetch } from "#adapters/web-fetch.ts";
import { fetchVendorDocuments } from "#core/attestation/vendor-documents.ts";
import { fromUtf8 } from "#core/bytes/bytes.ts";
import { AMD_KDS_URL } from "#core/sev-snp/kds-client.ts";
import { cachingFetch } from "#core/http/caching-fetch.ts";
import { CollateralCache } from "#core/tdx/collateral-cache.ts";
import { DEFAULT_PCCS_URL, fetchCollateral } from "#core/tdx/pccs-client.ts";
import { hostCrypto } from "#adapters/crypto.ts";
import { EndorsementCache } from "#core/tdx/endorsement-cache.ts";
import { createVerifierApp } from "#functions/verifier/app.ts";
import { verdictFacts } from "#functions/verifier/verdict-facts.ts";
import { closeOnSignal } from "./process.ts";
import { readTrustAnchors } from "./trust-anchors.ts";
import { verifierConfigSchema } from "./verifier-config.ts";
import { VERSION } from "./version.ts";

/** What `scripts/build-pages` makes of functions/verifier/page. */
const PAGE = fileURLToPath(new URL("../../dist/verify-page/index.html", import.meta.url));
const MAX_PAGE_BYTES = 4 * 1024 * 1024;

/** Certificates and revocation lists of AMD and Google, near 2 KiB each. */
const MAX_VENDOR_DOCUMENTS = 1024;
const MAX_VENDOR_DOCUMENT_BYTES = 256 * 1024;

/** The verifier service: `--config verifier.toml`, `--check-config`. */
export async function verifierMain(argv: readonly string[]): Promise<void> {
  const { values } = parseArgs({
    args: [...argv],
    options: {
      config: { type: "string", short: "c", default: "verifier.toml" },
      "check-config": { type: "boolean", default: false },
    },
  });
  const config = await loadConfig(verifierConfigSchema, {
    file: values.config,
    envPrefix: "DSTACK_VERIFIER_",
  });
  const trustAnchors = await readTrustAnchors(config.attestation);
  if (values["check-config"]) return;
  await configureLogging({ program: "verifier", level: config.log_level });
  const log = getLogger("verifier");
  for (const { name, simulated } of trustAnchors) {
    log.info("trust anchor", { trust_anchor: name, simulated });
  }
  const pccs = {
    baseUrl: config.attestation.urls.pccs || DEFAULT_PCCS_URL,
    fetch: makeWebFetch(),
    timeoutMs: config.collateral.timeout,
  };
  const now = () => new Date();
  const collateral = new CollateralCache({
    fetch: (quote) => fetchCollateral(quote, pccs),
    now,
    maxAgeMs: config.collateral.max_age,
    logError: (what, error) => log.error("Failed: {what}", { what, error }),
  });
  const vendors = {
    amdKdsUrl: config.attestation.urls.amd_kds || AMD_KDS_URL,
    fetch: cachingFetch({
      fetch: pccs.fetch,
      now,
      maxAgeMs: config.collateral.max_age,
      maxEntries: MAX_VENDOR_DOCUMENTS,
      maxBytes: MAX_VENDOR_DOCUMENT_BYTES,
    }),
  };
  const page = await readFileIfExists(PAGE, MAX_PAGE_BYTES);
  if (page === undefined) log.info("no verify page: scripts/build-pages builds it");
  const app = createVerifierApp({
    now,
    trustAnchors,
    collateralFor: (quote) => collateral.get(quote),
    vendorDocumentsFor: (attestation) => fetchVendorDocuments(attestation, vendors),
    crypto: hostCrypto,
    endorsements: new EndorsementCache(),
    page: page && fromUtf8(page),
    logVerdict: (verdict) => log.info("verdict", verdictFacts(verdict)),
    logError: (error) => log.error("Failed: answering a request", { error }),
    metrics: createPrometheusMetrics(),
    version: VERSION,
  });
  const server = await serveHttp(app.fetch, { host: config.address, port: config.port });
  log.info("verifier is serving", { address: `${config.address}:${server.port}` });
  closeOnSignal(() => server.close());
}
