import { equalBytes, utf8 } from "../bytes/bytes.ts";
import { decodeOnePem } from "../encoding/pem.ts";
import { AppError } from "../errors/app-error.ts";
import { AWS_NITRO_ROOT_G1 } from "../nitro/aws-root.ts";
import { ARK_GENOA, ARK_MILAN, ARK_TURIN } from "../sev-snp/amd-roots.ts";
import { SNP_PRODUCTS, type SnpProduct } from "../sev-snp/product.ts";
import { INTEL_SGX_ROOT_CA } from "../tdx/intel-root.ts";
import { GCP_EK_AK_ROOT } from "../tpm/gcp-root.ts";
import { parseX509Certificate, type X509Certificate } from "../x509/x509-certificate.ts";

/**
 * A root the verifier's owner trusts, by a name that verdicts repeat. `simulated` roots vouch for
 * software that plays a TEE: every verdict that rests on one says so.
 */
export interface TrustAnchor {
  readonly name: string;
  readonly simulated: boolean;
  readonly certificate: X509Certificate;
  /** The kinds of evidence it vouches for; undefined for any: a root its owner supplied without saying. */
  readonly vouchesFor?: readonly Endorsement[];
}

/** What a vendor's root stands behind: each root signs for nothing but its own. */
export type Endorsement =
  | "intel"
  | `amd-${Lowercase<SnpProduct>}`
  | "aws-nitro-enclave"
  | "aws-nitro-tpm"
  | "gcp-tpm";

/** The roots of every real TEE, by the vendors' own publication. */
export const INTEL_TRUST_ANCHOR = vendorAnchor("intel-sgx-root-ca", ["intel"], INTEL_SGX_ROOT_CA);
export const AMD_TRUST_ANCHORS: readonly TrustAnchor[] = [
  vendorAnchor("amd-ark-milan", ["amd-milan"], ARK_MILAN),
  vendorAnchor("amd-ark-genoa", ["amd-genoa"], ARK_GENOA),
  vendorAnchor("amd-ark-turin", ["amd-turin"], ARK_TURIN),
];
export const AWS_NITRO_TRUST_ANCHOR = vendorAnchor(
  "aws-nitro-root-g1",
  ["aws-nitro-enclave", "aws-nitro-tpm"],
  AWS_NITRO_ROOT_G1,
);
export const GCP_TPM_TRUST_ANCHOR = vendorAnchor("gcp-ek-ak-root", ["gcp-tpm"], GCP_EK_AK_ROOT);

/** All of them: for verifiers that take evidence of any kind. */
export const VENDOR_TRUST_ANCHORS: readonly TrustAnchor[] = [
  INTEL_TRUST_ANCHOR,
  ...AMD_TRUST_ANCHORS,
  AWS_NITRO_TRUST_ANCHOR,
  GCP_TPM_TRUST_ANCHOR,
];

function vendorAnchor(
  name: string,
  vouchesFor: readonly Endorsement[],
  der: Uint8Array,
): TrustAnchor {
  return { name, simulated: false, certificate: parseX509Certificate(der), vouchesFor };
}

/** The product AMD's root is for; undefined for a root its owner supplied. */
export function productOfAnchor({ vouchesFor }: TrustAnchor): SnpProduct | undefined {
  return SNP_PRODUCTS.find((one) =>
    vouchesFor?.includes(`amd-${one.toLowerCase() as Lowercase<SnpProduct>}`)
  );
}

const SIMULATED_MARK = utf8("SIMULATED");

/**
 * Reads a root from PEM or DER; it must be a CA certificate and nothing may follow it. A root whose
 * subject says SIMULATED is simulated whatever the caller thinks: nobody can pass it off as real.
 * Throws `config/invalid`.
 */
export function parseTrustAnchor(
  name: string,
  bytes: Uint8Array | string,
  options: {
    readonly simulated?: boolean;
    readonly vouchesFor?: readonly Endorsement[];
  } = {},
): TrustAnchor {
  let certificate: X509Certificate;
  try {
    const text = typeof bytes === "string" ? bytes : new TextDecoder().decode(bytes);
    const isPem = text.includes("-----BEGIN");
    const der = isPem || typeof bytes === "string" ? decodeOnePem("CERTIFICATE", text) : bytes;
    certificate = parseX509Certificate(der);
  } catch (cause) {
    throw new AppError("config/invalid", `Cannot read trust anchor ${name}`, { cause });
  }
  if (!certificate.isCa) {
    throw new AppError("config/invalid", `Trust anchor ${name} is not a CA certificate`);
  }
  const simulated = options.simulated === true || contains(certificate.subject, SIMULATED_MARK);
  const { vouchesFor } = options;
  return { name, simulated, certificate, ...(vouchesFor && { vouchesFor }) };
}

/**
 * The anchor a chain (leaf first) ends in or hangs on, of those that vouch for such evidence (`amd`: for
 * any of its products); undefined when none fits.
 */
export function anchorOf(
  chain: readonly X509Certificate[],
  anchors: readonly TrustAnchor[],
  endorsement: Endorsement | "amd",
): TrustAnchor | undefined {
  const last = chain.at(-1);
  if (!last) return undefined;
  const fitting = anchors.filter(({ vouchesFor }) =>
    vouchesFor === undefined ||
    vouchesFor.some((one) => one === endorsement || endorsement === "amd" && one.startsWith("amd-"))
  );
  return fitting.find(({ certificate }) => equalBytes(certificate.encoded, last.encoded)) ??
    fitting.find(({ certificate }) =>
      !equalBytes(last.issuer, last.subject) && equalBytes(certificate.subject, last.issuer)
    );
}

function contains(haystack: Uint8Array, needle: Uint8Array): boolean {
  for (let at = 0; at + needle.length <= haystack.length; at++) {
    if (equalBytes(haystack.subarray(at, at + needle.length), needle)) return true;
  }
  return false;
}
