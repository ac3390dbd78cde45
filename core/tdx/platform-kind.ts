import { toHex } from "../bytes/bytes.ts";
import { decodePem } from "../encoding/pem.ts";
import { AppError } from "../errors/app-error.ts";
import { parseX509Certificate } from "../x509/x509-certificate.ts";
import { pckCaOf, pckPlatformOf } from "./pck-certificate.ts";
import { pckChainOf } from "./pck-chain.ts";
import { CERTIFICATION, type Quote } from "./quote.ts";

/**
 * What collateral is for, as text: `tdx/platform/90c06f000000`, the TEE, the PCK CA and the FMSPC.
 * Undefined for quotes without their PCK certificate: theirs comes with the collateral. Throws
 * `input/malformed`.
 */
export function platformKindOf(quote: Quote): string | undefined {
  if (quote.signatureData.certification.type !== CERTIFICATION.pckChain) return undefined;
  const der = decodePem("CERTIFICATE", pckChainOf(quote))[0];
  if (der === undefined) {
    throw new AppError("input/malformed", "Cannot use quote: it has no PCK certificate");
  }
  const leaf = parseX509Certificate(der);
  return `${quote.header.tee}/${pckCaOf(leaf)}/${toHex(pckPlatformOf(leaf).fmspc)}`;
}
