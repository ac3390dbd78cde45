import { equalBytes } from "../bytes/bytes.ts";
import { AppError } from "../errors/app-error.ts";
import { type Certificate, KEY_USAGE, nameOf, verifyIssued } from "./certificate.ts";
import { type IssuerClaims, readIssuerClaims } from "./claims.ts";
import { X509_OID } from "./oids.ts";

const MAX_DEPTH = 4;
const UNDERSTOOD: ReadonlySet<string> = new Set(Object.values(X509_OID));

/**
 * Validates `chain` (leaf first; a root at its end may be left out) up to the KMS with `root`'s
 * public key, and returns what the KMS says about the holder. The identity of a KMS is its key: each
 * replica has a root certificate of its own. Throws `certificate/untrusted`.
 */
export function verifyKmsChain(
  chain: readonly Certificate[],
  root: Certificate,
  now: Date,
): IssuerClaims {
  const [leaf] = chain;
  if (leaf === undefined) throw new AppError("certificate/untrusted", "No certificate presented");
  const above = chain.filter((certificate) => !equalBytes(certificate.publicKey, root.publicKey));
  if (above[0] !== leaf || above.length > MAX_DEPTH) {
    throw new AppError("certificate/untrusted", "Certificate chain has an unexpected shape");
  }
  const issuers = [...above.slice(1), root];
  for (const [index, certificate] of above.entries()) {
    const issuer = issuers[index]!;
    verifyIssued(certificate, issuer);
    requireCa(issuer, index);
    requireUsable(certificate, now);
  }
  requireUsable(root, now);
  const claims = readIssuerClaims(leaf);
  for (const issuer of above.slice(1)) requireSameApp(issuer, claims);
  return claims;
}

/** `below`: how many CA certificates stand between this issuer and the leaf. */
function requireCa(issuer: Certificate, below: number): void {
  const { ca, keyUsage } = issuer;
  if (ca === undefined || ((keyUsage ?? 0) & KEY_USAGE.keyCertSign) === 0) {
    throw new AppError("certificate/untrusted", `${nameOf(issuer)} is not a certificate authority`);
  }
  if (ca.pathLength !== undefined && below > ca.pathLength) {
    throw new AppError("certificate/untrusted", `${nameOf(issuer)} has too many CAs below it`);
  }
}

function requireUsable(certificate: Certificate, now: Date): void {
  if (now < certificate.notBefore || now > certificate.notAfter) {
    throw new AppError(
      "certificate/untrusted",
      `Certificate of ${
        nameOf(certificate)
      } is valid from ${certificate.notBefore.toISOString()} to ${certificate.notAfter.toISOString()} only`,
    );
  }
  for (const [oid, { critical }] of certificate.extensions) {
    if (critical && !UNDERSTOOD.has(oid)) {
      throw new AppError("certificate/untrusted", `Critical extension ${oid} is not understood`);
    }
  }
}

/** An app's CA vouches for that app alone. */
function requireSameApp(issuer: Certificate, leaf: IssuerClaims): void {
  const { appId } = readIssuerClaims(issuer);
  if (appId === undefined) return;
  if (leaf.appId === undefined || !equalBytes(appId, leaf.appId)) {
    throw new AppError("certificate/untrusted", "Certificate is for another app than its issuer");
  }
}
