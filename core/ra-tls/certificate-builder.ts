import { sha256 } from "@noble/hashes/sha2.js";
import { utf8 } from "../bytes/bytes.ts";
import { parseP256Spki, signP256 } from "../crypto/p256.ts";
import { DER, der, derBitString, derInteger, derOid } from "../encoding/der.ts";
import { AppError } from "../errors/app-error.ts";
import { parseIpAddress } from "./ip-address.ts";
import { RA_TLS_OID, X509_OID } from "./oids.ts";

export interface DistinguishedName {
  readonly organization?: string | undefined;
  readonly commonName: string;
}

/** What signs: the DER name of the issuer's certificate and its 32-byte P-256 scalar. */
export interface Issuer {
  readonly name: Uint8Array;
  readonly key: Uint8Array;
}

/** One certificate of the profile in kms.md 3.4. */
export interface CertificateSpec {
  readonly subject: DistinguishedName;
  /** DER SubjectPublicKeyInfo of a P-256 key, 91 bytes. */
  readonly publicKey: Uint8Array;
  readonly issuer: Issuer;
  /** 1975-01-01 unless given: guests boot before they know the time. */
  readonly notBefore?: Date | undefined;
  readonly notAfter: Date;
  /** Makes it a CA; `pathLength` counts the CAs allowed below it. */
  readonly ca?: { readonly pathLength: number };
  /** IP literals become iPAddress, everything else dNSName. */
  readonly altNames?: readonly string[];
  readonly serverAuth?: boolean;
  readonly clientAuth?: boolean;
  /** 20 bytes. */
  readonly appId?: Uint8Array | undefined;
  /** MessagePack, see app-info.ts. */
  readonly appInfo?: Uint8Array | undefined;
  readonly specialUsage?: string | undefined;
  /** Versioned attestation, stripped. */
  readonly attestation?: Uint8Array | undefined;
}

const DEFAULT_NOT_BEFORE = new Date("1975-01-01T00:00:00Z");
const DAY_MS = 86_400_000;

/** The default end of validity: 3650 days after `now`. */
export function defaultNotAfter(now: Date): Date {
  return new Date(now.getTime() + 3650 * DAY_MS);
}

/** An issuer that signs its own certificate. */
export function selfIssuer(subject: DistinguishedName, key: Uint8Array): Issuer {
  return { name: encodeName(subject), key };
}

/** Builds and signs a certificate; returns DER. */
export function buildCertificate(spec: CertificateSpec): Uint8Array {
  const algorithm = der(DER.sequence, derOid(X509_OID.ecdsaWithSha256));
  const point = parseP256Spki(spec.publicKey);
  const tbs = der(
    DER.sequence,
    der(DER.context(0), derInteger(2n)),
    serialOf(point),
    algorithm,
    spec.issuer.name,
    der(
      DER.sequence,
      encodeTime(spec.notBefore ?? DEFAULT_NOT_BEFORE),
      encodeTime(spec.notAfter),
    ),
    encodeName(spec.subject),
    spec.publicKey,
    der(DER.context(3), der(DER.sequence, ...extensionsOf(spec))),
  );
  return der(DER.sequence, tbs, algorithm, derBitString(signP256(spec.issuer.key, tbs)));
}

/** DER Name: O, then CN, each a UTF8String in a set of its own. */
export function encodeName(name: DistinguishedName): Uint8Array {
  const attribute = (oid: string, text: string) =>
    der(DER.set, der(DER.sequence, derOid(oid), der(DER.utf8String, utf8(text))));
  return der(
    DER.sequence,
    ...(name.organization === undefined
      ? []
      : [attribute(X509_OID.organization, name.organization)]),
    attribute(X509_OID.commonName, name.commonName),
  );
}

/** INTEGER: the first 20 bytes of SHA-256 of the uncompressed point, top bit cleared. */
function serialOf(point: Uint8Array): Uint8Array {
  const bytes = sha256(point).subarray(0, 20);
  bytes[0]! &= 0x7f;
  return derInteger(bytes.reduce((value, byte) => value << 8n | BigInt(byte), 0n));
}

/** UTCTime for 1950 to 2049, GeneralizedTime otherwise (RFC 5280 4.1.2.5). */
function encodeTime(time: Date): Uint8Array {
  const year = time.getUTCFullYear();
  if (Number.isNaN(time.getTime()) || year < 0 || year > 9999) {
    throw new AppError("input/malformed", "Certificate validity is outside the years 0 to 9999");
  }
  const digits = time.toISOString().replace(/[-:T]|\.\d{3}/g, "");
  return year >= 1950 && year < 2050
    ? der(DER.utcTime, utf8(digits.slice(2)))
    : der(DER.generalizedTime, utf8(digits));
}

function extensionsOf(spec: CertificateSpec): Uint8Array[] {
  const list: Uint8Array[] = [];
  if (spec.altNames !== undefined && spec.altNames.length > 0) {
    const names = spec.altNames.map(encodeAltName);
    list.push(extension(X509_OID.subjectAltName, false, der(DER.sequence, ...names)));
  }
  // Named bits from the left: digitalSignature 0, keyCertSign 5, cRLSign 6.
  const keyUsage = spec.ca === undefined ? Uint8Array.of(7, 0x80) : Uint8Array.of(1, 0x86);
  list.push(extension(X509_OID.keyUsage, true, der(DER.bitString, keyUsage)));
  const purposes = [
    ...(spec.serverAuth ? [derOid(X509_OID.serverAuth)] : []),
    ...(spec.clientAuth ? [derOid(X509_OID.clientAuth)] : []),
  ];
  if (purposes.length > 0) {
    list.push(extension(X509_OID.extendedKeyUsage, false, der(DER.sequence, ...purposes)));
  }
  if (spec.ca !== undefined) {
    const keyId = sha256(spec.publicKey).subarray(0, 20);
    list.push(extension(X509_OID.subjectKeyIdentifier, false, der(DER.octetString, keyId)));
    const isCa = der(DER.boolean, Uint8Array.of(0xff));
    const constraints = der(DER.sequence, isCa, derInteger(BigInt(spec.ca.pathLength)));
    list.push(extension(X509_OID.basicConstraints, true, constraints));
  }
  if (spec.appId !== undefined) list.push(wrapped(RA_TLS_OID.appId, spec.appId));
  if (spec.appInfo !== undefined) list.push(wrapped(RA_TLS_OID.appInfo, spec.appInfo));
  if (spec.specialUsage !== undefined) {
    list.push(wrapped(RA_TLS_OID.specialUsage, utf8(spec.specialUsage)));
  }
  if (spec.attestation !== undefined) list.push(wrapped(RA_TLS_OID.attestation, spec.attestation));
  return list;
}

function encodeAltName(name: string): Uint8Array {
  const address = parseIpAddress(name);
  if (address !== undefined) return der(DER.contextPrimitive(7), address);
  if (!/^[\x21-\x7e]{1,255}$/.test(name)) {
    throw new AppError(
      "input/malformed",
      "Alternative name is not 1 to 255 printable ASCII characters",
    );
  }
  return der(DER.contextPrimitive(2), utf8(name));
}

function extension(oid: string, critical: boolean, value: Uint8Array): Uint8Array {
  const flag = critical ? [der(DER.boolean, Uint8Array.of(0xff))] : [];
  return der(DER.sequence, derOid(oid), ...flag, der(DER.octetString, value));
}

/** dstack's extensions hold an OCTET STRING inside the extension's own. */
function wrapped(oid: string, payload: Uint8Array): Uint8Array {
  return extension(oid, false, der(DER.octetString, payload));
}
