import { sha256 } from "@noble/hashes/sha2.js";
import { concatBytes, equalBytes, isZero } from "../bytes/bytes.ts";
import { refusal } from "../errors/refusal.ts";
import type { QeIdentity } from "./qe-identity.ts";
import type { QuoteSignatureData } from "./quote.ts";
import type { SgxReportBody } from "./sgx-report-body.ts";

const QE_AUTH_DATA_BYTES = 32;
const SGX_DEBUG = 0x02;

/** Compares the quoting enclave with Intel's description of the genuine one. Refuses a debug enclave. */
export function requireGenuineQe(report: SgxReportBody, identity: QeIdentity): void {
  const differs = (what: string) =>
    refusal("quoting-enclave-identity-mismatch", `The quoting enclave's ${what} is not genuine`);
  if (!equalBytes(report.mrSigner, identity.mrSigner)) throw differs("MRSIGNER");
  if (report.attributes[0]! & SGX_DEBUG) {
    throw refusal("debug-enabled", "The quoting enclave runs in debug mode");
  }
  if (report.isvProdId !== identity.isvProdId) throw differs("ISVPRODID");
  const misc = (report.miscSelect ^ identity.miscSelect) & identity.miscSelectMask;
  if (misc !== 0) throw differs("MISCSELECT");
  const { attributesMask } = identity;
  for (const [i, mask] of attributesMask.entries()) {
    if ((report.attributes[i]! ^ identity.attributes[i]!) & mask) throw differs("ATTRIBUTES");
  }
}

/** QE report data is SHA-256(attestation key, authentication data), then zeros. Refuses anything else. */
export function requireBinding(qeReport: SgxReportBody, data: QuoteSignatureData): void {
  const digest = sha256(concatBytes(data.attestationKey, data.qeAuthData));
  const { reportData } = qeReport;
  if (
    data.qeAuthData.length !== QE_AUTH_DATA_BYTES ||
    !equalBytes(reportData.subarray(0, 32), digest) || !isZero(reportData.subarray(32))
  ) {
    throw refusal(
      "quoting-enclave-binding-invalid",
      "The quoting enclave does not vouch for the attestation key",
    );
  }
}
