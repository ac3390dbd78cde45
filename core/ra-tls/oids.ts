/** Object identifiers of dstack's certificate extensions (attestation.md 4.1). */
export const RA_TLS_OID = {
  /** Raw TDX quote; written by old peers only. */
  legacyQuote: "1.3.6.1.4.1.62397.1.1",
  /** JSON event log of a legacy quote. */
  legacyEventLog: "1.3.6.1.4.1.62397.1.2",
  /** App id, 20 bytes: a claim of the issuer. */
  appId: "1.3.6.1.4.1.62397.1.3",
  /** What a KMS-issued certificate is for: a claim of the issuer. */
  specialUsage: "1.3.6.1.4.1.62397.1.4",
  /** Versioned attestation, stripped. */
  attestation: "1.3.6.1.4.1.62397.1.8",
  /** App info as a MessagePack array: a claim of the issuer. */
  appInfo: "1.3.6.1.4.1.62397.1.9",
} as const;

export const SPECIAL_USAGE = {
  kmsRpc: "kms:rpc",
  appCa: "app:ca",
  appCustom: "app:custom",
} as const;

/** X.509 (RFC 5280) and ECDSA (RFC 5758) identifiers used here. */
export const X509_OID = {
  commonName: "2.5.4.3",
  organization: "2.5.4.10",
  subjectKeyIdentifier: "2.5.29.14",
  keyUsage: "2.5.29.15",
  subjectAltName: "2.5.29.17",
  basicConstraints: "2.5.29.19",
  extendedKeyUsage: "2.5.29.37",
  serverAuth: "1.3.6.1.5.5.7.3.1",
  clientAuth: "1.3.6.1.5.5.7.3.2",
  ecdsaWithSha256: "1.2.840.10045.4.3.2",
} as const;
