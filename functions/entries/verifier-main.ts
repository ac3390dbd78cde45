import process from "node:process";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";
import { getLogger } from "@logtape/logtape";
import { loadConfig } from "#adapters/config.ts";
import { hostCrypto } from "#adapters/crypto.ts";
import { readFileBounded, readFileIfExists, writeFileAtomic } from "#adapters/files.ts";
import { serveHttp } from "#adapters/http-server.ts";
import { ImageCache } from "#adapters/image-cache.ts";
import { configureLogging } from "#adapters/logging.ts";
import { createPrometheusMetrics } from "#adapters/metrics.ts";
import { makeWebFetch } from "#adapters/web-fetch.ts";
import { fetchVendorDocuments } from "#core/attestation/vendor-documents.ts";
import { fromHex, fromUtf8, utf8 } from "#core/bytes/bytes.ts";
import { AppError } from "#core/errors/app-error.ts";
import { AMD_KDS_URL } from "#core/sev-snp/kds-client.ts";
import { cachingFetch } from "#core/http/caching-fetch.ts";
import {
  type CollateralPack,
  MAX_PACK_BYTES,
  openCollateralPack,
} from "#core/tdx/collateral-pack.ts";
import { CollateralCache } from "#core/tdx/collateral-cache.ts";
import { DEFAULT_PCCS_URL, fetchCollateral } from "#core/tdx/pccs-client.ts";
import { EndorsementCache } from "#core/tdx/endorsement-cache.ts";
import { appraiseWith, createVerifierApp } from "#functions/verifier/app.ts";
import { answerCertificate, CERTIFICATE_POLICY } from "#functions/verifier/certificate.ts";
import type { AppraisalPorts } from "#functions/verifier/ports.ts";
import { answerReference, REFERENCE_POLICY } from "#functions/verifier/reference-api.ts";
import { MAX_REQUEST_BYTES } from "#functions/verifier/request.ts";
import { verdictFacts } from "#functions/verifier/verdict-facts.ts";
import { closeOnSignal } from "./process.ts";
import { readTrustAnchors } from "./trust-anchors.ts";
import { verifierConfigSchema } from "./verifier-config.ts";
import { VERSION } from "./version.ts";

/** What `scripts/build-pages` makes of functions/verifier/page. */
const PAGE = fileURLToPath(new URL("../../dist/verify-page/index.html", import.meta.url));
const MAX_PAGE_BYTES = 4 * 1024 * 1024;
/** PEM of an attestation of 10 MiB. */
const MAX_CERTIFICATE_FILE_BYTES = 16 * 1024 * 1024;

/** Certificates and revocation lists of AMD and Google, near 2 KiB each. */
const MAX_VENDOR_DOCUMENTS = 1024;
const MAX_VENDOR_DOCUMENT_BYTES = 256 * 1024;

/**
 * The verifier service: `--config verifier.toml`, `--check-config`. With `--verify FILE` it answers one
 * request of the reference's form instead (attestation.md 6.4): the answer goes to stdout and to
 * FILE.verification.json, and the exit status is 0 for valid, 1 for anything else. `--verify-cert FILE` does
 * the same for an RA-TLS certificate and FILE.ratls-verification.json.
 */
export async function verifierMain(argv: readonly string[]): Promise<void> {
  const { values } = parseArgs({
    args: [...argv],
    options: {
      config: { type: "string", short: "c", default: "verifier.toml" },
      "check-config": { type: "boolean", default: false },
      verify: { type: "string" },
      "verify-cert": { type: "string" },
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
  const pack = config.collateral.pack === undefined
    ? undefined
    : await readPack(config.collateral.pack, config.collateral.pack_signers);
  const images = new ImageCache({
    directory: config.image_cache_dir,
    downloadUrl: config.image_download_url,
    timeoutMs: config.image_download_timeout_secs * 1000,
    maxBytes: config.image_cache_mib * 1024 ** 2,
    now,
    fetch,
    logError: (what, error) => log.error("Failed: {what}", { what, error }),
  });
  const appraisal: AppraisalPorts = {
    registersOf: images.registersOf,
    now,
    trustAnchors,
    collateralFor: async (quote) => pack?.collateralFor(quote) ?? await collateral.get(quote),
    vendorDocumentsFor: (attestation) => fetchVendorDocuments(attestation, vendors),
    crypto: hostCrypto,
    endorsements: new EndorsementCache(),
  };
  if (values.verify !== undefined) {
    process.exitCode = await verifyFile(values.verify, appraisal) ? 0 : 1;
    return;
  }
  if (values["verify-cert"] !== undefined) {
    process.exitCode = await verifyCertificate(values["verify-cert"], appraisal) ? 0 : 1;
    return;
  }
  const page = await readFileIfExists(PAGE, MAX_PAGE_BYTES);
  if (page === undefined) log.info("no verify page: scripts/build-pages builds it");
  const app = createVerifierApp({
    ...appraisal,
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

/** Collateral shipped with the service. A pack nobody named signed ends the start. */
async function readPack(path: string, signers: readonly string[]): Promise<CollateralPack> {
  try {
    const bytes = await readFileBounded(path, MAX_PACK_BYTES);
    return openCollateralPack(bytes, signers.map((signer) => fromHex(signer, "pack_signers")));
  } catch (cause) {
    throw new AppError("config/invalid", `collateral.pack cannot be used: ${path}`, { cause });
  }
}

async function verifyFile(path: string, ports: AppraisalPorts): Promise<boolean> {
  const answer = await answerReference(
    await readFileBounded(path, MAX_REQUEST_BYTES),
    (attestation) => appraiseWith(ports, { attestation, policy: REFERENCE_POLICY }),
    ports.registersOf,
  );
  return await report(answer, `${path}.verification.json`);
}

/** Images are not looked up for a certificate, as in the reference. */
async function verifyCertificate(
  path: string,
  { registersOf: _, ...ports }: AppraisalPorts,
): Promise<boolean> {
  const answer = await answerCertificate(
    await readFileBounded(path, MAX_CERTIFICATE_FILE_BYTES),
    ports.now(),
    (attestation, expectedReportData) =>
      appraiseWith(ports, { attestation, expectedReportData, policy: CERTIFICATE_POLICY }),
  );
  return await report(answer, `${path}.ratls-verification.json`);
}

async function report(answer: { readonly is_valid: boolean }, path: string): Promise<boolean> {
  await writeFileAtomic(path, utf8(`${JSON.stringify(answer, undefined, 2)}\n`));
  process.stdout.write(`${JSON.stringify(answer)}\n`);
  return answer.is_valid;
}
