import { fromUtf8 } from "../bytes/bytes.ts";
import { DER, DerReader } from "../encoding/der.ts";
import { AppError } from "../errors/app-error.ts";
import { type CertificateAppInfo, decodeAppInfo } from "./app-info.ts";
import type { Certificate } from "./certificate.ts";
import { RA_TLS_OID } from "./oids.ts";

/** Limit of an encoded attestation (kms.md 1.5). */
export const MAX_ATTESTATION_BYTES = 10 * 1024 * 1024;
const MAX_CLAIM_BYTES = 64 * 1024;

/** What the issuer of a certificate says about its holder; worth what the issuer is worth. */
export interface IssuerClaims {
  /** 20 bytes. */
  readonly appId: Uint8Array | undefined;
  readonly appInfo: CertificateAppInfo | undefined;
  readonly specialUsage: string | undefined;
}

/** Evidence in a certificate, in the current or the legacy form. Not verified. */
export type CertificateEvidence =
  | { readonly form: "versioned"; readonly attestation: Uint8Array }
  | { readonly form: "legacy"; readonly quote: Uint8Array; readonly eventLog: Uint8Array };

/** Reads the issuer's claims. Use them only after checking the chain (see chain.ts). */
export function readIssuerClaims(certificate: Certificate): IssuerClaims {
  const appId = payload(certificate, RA_TLS_OID.appId, MAX_CLAIM_BYTES);
  if (appId !== undefined && appId.length !== 20) {
    throw new AppError("input/malformed", `App id extension has ${appId.length} bytes, not 20`);
  }
  const appInfo = payload(certificate, RA_TLS_OID.appInfo, MAX_CLAIM_BYTES);
  const usage = payload(certificate, RA_TLS_OID.specialUsage, MAX_CLAIM_BYTES);
  return {
    appId,
    appInfo: appInfo === undefined ? undefined : decodeAppInfo(appInfo),
    specialUsage: usage === undefined ? undefined : fromUtf8(usage, "special usage extension"),
  };
}

/** The evidence a certificate carries, undefined when it has none. */
export function readEvidence(certificate: Certificate): CertificateEvidence | undefined {
  const attestation = payload(certificate, RA_TLS_OID.attestation, MAX_ATTESTATION_BYTES);
  if (attestation !== undefined) return { form: "versioned", attestation };
  const quote = payload(certificate, RA_TLS_OID.legacyQuote, MAX_ATTESTATION_BYTES);
  if (quote === undefined) return undefined;
  const eventLog = payload(certificate, RA_TLS_OID.legacyEventLog, MAX_ATTESTATION_BYTES);
  if (eventLog === undefined) {
    throw new AppError("input/malformed", "Certificate has a TDX quote but no event log");
  }
  return { form: "legacy", quote, eventLog };
}

/** The inner OCTET STRING of one of dstack's extensions; `maxLength` in bytes. */
function payload(certificate: Certificate, oid: string, maxLength: number): Uint8Array | undefined {
  const extension = certificate.extensions.get(oid);
  if (extension === undefined) return undefined;
  const reader = new DerReader(extension.value, `extension ${oid}`);
  const content = reader.content("payload", DER.octetString);
  reader.end();
  if (content.length > maxLength) {
    throw new AppError("input/too-large", `Extension ${oid} exceeds ${maxLength} bytes`);
  }
  return content.slice();
}
