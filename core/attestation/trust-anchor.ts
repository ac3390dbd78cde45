import { equalBytes, utf8 } from "../bytes/bytes.ts";
import { decodeOnePem } from "../encoding/pem.ts";
import { AppError } from "../errors/app-error.ts";
import { INTEL_SGX_ROOT_CA } from "../tdx/intel-root.ts";
import { parseX509Certificate, type X509Certificate } from "../x509/x509-certificate.ts";

/**
 * A root the verifier's owner trusts, by a name that verdicts repeat. `simulated` roots vouch for
 * software that plays a TEE: every verdict that rests on one says so.
 */
export interface TrustAnchor {
  readonly name: string;
  readonly simulated: boolean;
  readonly certificate: X509Certificate;
}

/** The root of every real TDX and SGX machine. */
export const INTEL_TRUST_ANCHOR: TrustAnchor = {
  name: "intel-sgx-root-ca",
  simulated: false,
  certificate: parseX509Certificate(INTEL_SGX_ROOT_CA),
};

const SIMULATED_MARK = utf8("SIMULATED");

/**
 * Reads a root from PEM or DER; it must be a CA certificate and nothing may follow it. A root whose
 * subject says SIMULATED is simulated whatever the caller thinks: nobody can pass it off as real.
 * Throws `config/invalid`.
 */
export function parseTrustAnchor(
  name: string,
  bytes: Uint8Array | string,
  options: { readonly simulated?: boolean } = {},
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
  return { name, simulated, certificate };
}

/** The anchor a chain (leaf first) ends in or hangs on; undefined when none fits. */
export function anchorOf(
  chain: readonly X509Certificate[],
  anchors: readonly TrustAnchor[],
): TrustAnchor | undefined {
  const last = chain.at(-1);
  if (!last) return undefined;
  return anchors.find(({ certificate }) => equalBytes(certificate.encoded, last.encoded)) ??
    anchors.find(({ certificate }) =>
      !equalBytes(last.issuer, last.subject) && equalBytes(certificate.subject, last.issuer)
    );
}

function contains(haystack: Uint8Array, needle: Uint8Array): boolean {
  for (let at = 0; at + needle.length <= haystack.length; at++) {
    if (equalBytes(haystack.subarray(at, at + needle.length), needle)) return true;
  }
  return false;
}
