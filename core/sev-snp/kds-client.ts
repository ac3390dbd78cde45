import { fromUtf8, toHex } from "../bytes/bytes.ts";
import { AppError } from "../errors/app-error.ts";
import type { FetchLike } from "../http/fetch-like.ts";
import { type DocumentSource, findDocument } from "../http/get-document.ts";
import { parsePemChain } from "../x509/pem-chain.ts";
import { productOfCpu, readSnpTcb, type SnpProduct } from "./product.ts";
import type { SnpReport } from "./report.ts";

export const AMD_KDS_URL = "https://kdsintf.amd.com";

const MAX_BODY_BYTES = 1024 * 1024;
const DEFAULT_TIMEOUT_MS = 120_000;
const TURIN_CHIP_ID_BYTES = 8;

export interface KdsOptions {
  /** With or without `/vcek/v1` at its end. */
  readonly baseUrl: string;
  readonly fetch: FetchLike;
  /** For each request. */
  readonly timeoutMs?: number;
}

/** What AMD's key service has about a report's chip, DER. */
export interface SnpVendorDocuments {
  /** VCEK and ASK. */
  readonly certificates: readonly Uint8Array[];
  /** The root's revocation list. */
  readonly crls: readonly Uint8Array[];
}

/**
 * Fetches the certificates of a report from AMD (AMD 57230, chapter 4), and the list of those it revoked.
 * A report of version 2 does not name its product, so all are tried, the likeliest first. Nothing is trusted
 * here. Throws `upstream/unavailable`, `upstream/invalid`, or `input/unsupported` for a key AMD does not
 * hand out.
 */
export async function fetchSnpDocuments(
  report: SnpReport,
  options: KdsOptions,
): Promise<SnpVendorDocuments> {
  if (report.signingKey !== "vcek") {
    throw new AppError(
      "input/unsupported",
      "AMD hands out certificates of chips (VCEK) alone: the evidence must bring its own",
    );
  }
  const source: DocumentSource = {
    fetch: options.fetch,
    name: "AMD's key service",
    timeoutMs: options.timeoutMs ?? DEFAULT_TIMEOUT_MS,
    maxBytes: MAX_BODY_BYTES,
  };
  const base = `${options.baseUrl.replace(/\/+$/, "").replace(/\/vcek\/v1$/, "")}/vcek/v1`;
  for (const product of productsOf(report)) {
    const key = await findDocument(`${base}/${product}/${vcekPath(report, product)}`, source);
    if (key === undefined) continue;
    const [chain, crl] = await Promise.all([
      findDocument(`${base}/${product}/cert_chain`, source),
      findDocument(`${base}/${product}/crl`, source),
    ]);
    if (chain === undefined) break;
    return { certificates: [key, askOf(chain)], crls: crl === undefined ? [] : [crl] };
  }
  throw new AppError("upstream/unavailable", "AMD's key service does not know the report's chip");
}

function productsOf({ cpu }: SnpReport): readonly SnpProduct[] {
  if (!cpu) return ["Genoa", "Milan", "Turin"];
  const product = productOfCpu(cpu);
  if (product) return [product];
  throw new AppError("input/unsupported", "The report's processor is of no known product");
}

/** Chip id and reported TCB, which name one VCEK. */
export function vcekPath(report: SnpReport, product: SnpProduct): string {
  const isTurin = product === "Turin";
  const chipId = isTurin ? report.chipId.subarray(0, TURIN_CHIP_ID_BYTES) : report.chipId;
  const { fmc = 0, bootloader, tee, snp, microcode } = readSnpTcb(report.reportedTcb, product);
  const levels = [
    ...(isTurin ? [["fmcSPL", fmc] as const] : []),
    ["blSPL", bootloader],
    ["teeSPL", tee],
    ["snpSPL", snp],
    ["ucodeSPL", microcode],
  ] as const;
  const query = levels.map(([name, svn]) => `${name}=${String(svn).padStart(2, "0")}`).join("&");
  return `${toHex(chipId)}?${query}`;
}

/** The first of ASK and ARK, PEM; the root is pinned. */
function askOf(chain: Uint8Array): Uint8Array {
  try {
    const [ask] = parsePemChain(fromUtf8(chain, "certificate chain"));
    if (ask) return ask.encoded;
  } catch (cause) {
    throw new AppError("upstream/invalid", "AMD's key service sent a malformed chain", { cause });
  }
  throw new AppError("upstream/invalid", "AMD's key service sent an empty chain");
}
