import { AppError } from "../errors/app-error.ts";
import type { FetchLike } from "../http/fetch-like.ts";
import { fetchSnpDocuments } from "../sev-snp/kds-client.ts";
import { parseSnpReport } from "../sev-snp/report.ts";
import { fetchAkIssuers } from "../tpm/ak-issuers.ts";
import type { VendorDocuments } from "./appraisal.ts";
import type { Attestation } from "./attestation.ts";

export interface VendorDocumentsOptions {
  /** AMD's key service or a cache of it. */
  readonly amdKdsUrl: string;
  readonly fetch: FetchLike;
}

/**
 * Fetches what evidence does not bring of its vendor: AMD's certificates where a guest has none, and the
 * issuers of a vTPM's attestation key. Intel's collateral is another matter. Undefined when nothing is
 * missing, or when the evidence cannot be read: the verdict says what is wrong with it.
 * Throws `upstream/…`.
 */
export async function fetchVendorDocuments(
  { platform }: Attestation,
  { amdKdsUrl, fetch }: VendorDocumentsOptions,
): Promise<VendorDocuments | undefined> {
  try {
    if (platform.kind === "sev-snp" && platform.certChain.length === 0) {
      return await fetchSnpDocuments(parseSnpReport(platform.report), {
        baseUrl: amdKdsUrl,
        fetch,
      });
    }
    if (platform.kind === "gcp-tdx") {
      return { certificates: await fetchAkIssuers(platform.tpmQuote.akCert, { fetch }) };
    }
  } catch (error) {
    if (!(error instanceof AppError) || !error.code.startsWith("input/")) throw error;
  }
  return undefined;
}
