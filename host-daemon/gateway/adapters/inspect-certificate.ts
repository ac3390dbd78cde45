import { createPrivateKey, X509Certificate } from "node:crypto";
import type { CertificateFacts } from "../certificates.ts";

/** Facts of the first certificate of a PEM chain, and whether the PEM key is its key. */
export function inspectCertificate(chainPem: string, keyPem: string): CertificateFacts {
  const leaf = new X509Certificate(chainPem);
  const names = (leaf.subjectAltName ?? "").split(", ");
  return {
    notAfter: Math.floor(Date.parse(leaf.validTo) / 1000),
    dnsNames: names.flatMap((name) => /^DNS:(.+)$/.exec(name)?.[1]?.toLowerCase() ?? []),
    keyMatches: leaf.checkPrivateKey(createPrivateKey(keyPem)),
    fingerprint: leaf.fingerprint256.replaceAll(":", "").toLowerCase(),
  };
}
