import { equalBytes } from "../bytes/bytes.ts";
import type { X509Certificate } from "./x509-certificate.ts";

/**
 * The chain that starts with `leaf`: each certificate is followed by the one of `others` whose name
 * issued it, a self-signed one ends it. Names prove nothing: `ChainVerifier` verifies.
 */
export function chainFrom(
  leaf: X509Certificate,
  others: readonly X509Certificate[],
): X509Certificate[] {
  const chain = [leaf];
  for (let last = leaf; !equalBytes(last.issuer, last.subject);) {
    const issuer = others.find((one) =>
      !chain.includes(one) && equalBytes(one.subject, last.issuer)
    );
    if (!issuer) break;
    chain.push(issuer);
    last = issuer;
  }
  return chain;
}
