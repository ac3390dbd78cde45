import { toHex } from "../bytes/bytes.ts";
import { DER, DerReader } from "../encoding/der.ts";
import type { SignatureAlgorithm } from "./signature.ts";
import {
  EXTENSION,
  readExtensions,
  readSigned,
  readTime,
  requireSameAlgorithm,
} from "./x509-certificate.ts";

/** Intel's PCK CRLs hold some hundred entries; these bounds hold a thousand times that. */
const MAX_CRL_BYTES = 16 * 1024 * 1024;

/** What we understand; any other critical extension makes a CRL unusable (RFC 5280 5.2). */
const UNDERSTOOD = new Set<string>([EXTENSION.authorityKeyIdentifier, EXTENSION.crlNumber]);

/** A parsed v2 CRL (RFC 5280 5.1). Parsing proves nothing: `chain.ts` verifies. */
export interface CertificateRevocationList {
  readonly encoded: Uint8Array;
  readonly tbs: Uint8Array;
  /** DER name. */
  readonly issuer: Uint8Array;
  /** Unix seconds, both inclusive. */
  readonly thisUpdate: number;
  readonly nextUpdate: number;
  /** Serial numbers, as `X509Certificate.serial` writes them. */
  readonly revoked: ReadonlySet<string>;
  readonly signatureAlgorithm: SignatureAlgorithm | undefined;
  readonly signature: Uint8Array;
}

/** Parses one DER CRL, complete and direct: delta and indirect CRLs are refused. Throws `input/malformed`. */
export function parseCrl(bytes: Uint8Array): CertificateRevocationList {
  const outer = new DerReader(bytes, "CRL");
  if (bytes.length > MAX_CRL_BYTES) throw outer.malformed("CRL", "is too large");
  const { tbs, signatureAlgorithm, algorithmIdentifier, signature } = readSigned(outer, "CRL");
  const r = new DerReader(tbs, "CRL").enter("tbsCertList");
  if (r.small("version") !== 1) throw r.malformed("version", "is not 2");
  requireSameAlgorithm(r, algorithmIdentifier);
  const issuer = r.any("issuer").encoded;
  const thisUpdate = readTime(r, "thisUpdate");
  const nextUpdate = readTime(r, "nextUpdate");
  const revoked = new Set<string>();
  if (r.peek() === DER.sequence) {
    const list = r.enter("revokedCertificates");
    while (!list.done) {
      const entry = list.enter("revokedCertificate");
      revoked.add(toHex(entry.content("userCertificate", DER.integer)));
      readTime(entry, "revocationDate");
      if (!entry.done) requireNothingCritical(entry, new Set());
      entry.end();
    }
  }
  if (r.peek() === DER.context(0)) {
    requireNothingCritical(r.enter("crlExtensions", DER.context(0)), UNDERSTOOD);
  }
  r.end();
  return {
    encoded: bytes.slice(),
    tbs,
    issuer,
    thisUpdate,
    nextUpdate,
    revoked,
    signatureAlgorithm,
    signature,
  };
}

function requireNothingCritical(r: DerReader, understood: ReadonlySet<string>): void {
  for (const [oid, { critical }] of readExtensions(r)) {
    if (critical && !understood.has(oid)) {
      throw r.malformed("extension", `${oid} is critical and not understood`);
    }
  }
}
