import { equalBytes, fromUtf8 } from "../bytes/bytes.ts";
import { P256_SPKI_LENGTH, verifyP256 } from "../crypto/p256.ts";
import { DER, DerReader } from "../encoding/der.ts";
import { decodeOnePem, decodePem, encodePem } from "../encoding/pem.ts";
import { AppError } from "../errors/app-error.ts";
import { X509_OID } from "./oids.ts";

/** An attestation of 10 MiB and everything around it. */
const MAX_CERTIFICATE_BYTES = 11 * 1024 * 1024;
const MAX_EXTENSIONS = 64;

export interface Extension {
  readonly critical: boolean;
  /** Content of the extension's OCTET STRING. */
  readonly value: Uint8Array;
}

/** A parsed X.509 v3 certificate (RFC 5280). Parsing says nothing about trust. */
export interface Certificate {
  readonly der: Uint8Array;
  /** The signed part. */
  readonly tbs: Uint8Array;
  /** DER names, to be compared byte for byte. */
  readonly issuer: Uint8Array;
  readonly subject: Uint8Array;
  readonly commonName: string | undefined;
  readonly notBefore: Date;
  readonly notAfter: Date;
  /** DER SubjectPublicKeyInfo. */
  readonly publicKey: Uint8Array;
  /** By dotted OID, in the order of the certificate. */
  readonly extensions: ReadonlyMap<string, Extension>;
  readonly ca: { readonly pathLength: number | undefined } | undefined;
  /** Named bits as in the certificate, first byte; undefined without the extension. */
  readonly keyUsage: number | undefined;
  readonly signatureAlgorithm: string;
  readonly signature: Uint8Array;
}

export const KEY_USAGE = { digitalSignature: 0x80, keyCertSign: 0x04 } as const;

/** Parses one DER certificate. Throws `input/malformed`, `input/too-large`. */
export function parseCertificate(bytes: Uint8Array): Certificate {
  if (bytes.length > MAX_CERTIFICATE_BYTES) {
    throw new AppError("input/too-large", `Certificate exceeds ${MAX_CERTIFICATE_BYTES} bytes`);
  }
  const outer = new DerReader(bytes, "certificate");
  const certificate = outer.enter("Certificate");
  outer.end();
  const tbsElement = certificate.any("tbsCertificate");
  const signatureAlgorithm = certificate.enter("signatureAlgorithm").oid("algorithm");
  const signature = certificate.bitString("signatureValue");
  certificate.end();

  const tbs = new DerReader(tbsElement.encoded, "certificate").enter("tbsCertificate");
  if (tbs.enter("version", DER.context(0)).small("version") !== 2) {
    throw tbs.malformed("version", "is not 3");
  }
  tbs.integer("serialNumber");
  if (tbs.enter("signature").oid("algorithm") !== signatureAlgorithm) {
    throw tbs.malformed("signature", "names another algorithm than signatureAlgorithm");
  }
  const issuer = tbs.any("issuer").encoded;
  const validity = tbs.enter("validity");
  const notBefore = readTime(validity, "notBefore");
  const notAfter = readTime(validity, "notAfter");
  validity.end();
  const subject = tbs.any("subject").encoded;
  const publicKey = tbs.any("subjectPublicKeyInfo").encoded;
  const extensions = readExtensions(tbs);
  tbs.end();

  return {
    der: bytes,
    tbs: tbsElement.encoded,
    issuer,
    subject,
    commonName: readCommonName(subject),
    notBefore,
    notAfter,
    publicKey,
    extensions,
    ca: readBasicConstraints(extensions.get(X509_OID.basicConstraints)),
    keyUsage: readKeyUsage(extensions.get(X509_OID.keyUsage)),
    signatureAlgorithm,
    signature,
  };
}

export function parseCertificatePem(pem: string): Certificate {
  return parseCertificate(decodeOnePem("CERTIFICATE", pem));
}

/** Certificates of a PEM chain, leaf first as written. */
export function parseChainPem(pem: string): Certificate[] {
  return decodePem("CERTIFICATE", pem).map(parseCertificate);
}

export function certificatePem(der: Uint8Array): string {
  return encodePem("CERTIFICATE", der);
}

export function privateKeyPem(pkcs8: Uint8Array): string {
  return encodePem("PRIVATE KEY", pkcs8);
}

/** Checks that `issuer` names and signed `certificate`. Throws `certificate/untrusted`. */
export function verifyIssued(certificate: Certificate, issuer: Certificate): void {
  const untrusted = (why: string, cause?: unknown) =>
    new AppError("certificate/untrusted", `Certificate of ${nameOf(certificate)} ${why}`, {
      cause,
    });
  if (!equalBytes(certificate.issuer, issuer.subject)) {
    throw untrusted(`names another issuer than ${nameOf(issuer)}`);
  }
  if (
    certificate.signatureAlgorithm !== X509_OID.ecdsaWithSha256 ||
    issuer.publicKey.length !== P256_SPKI_LENGTH
  ) {
    throw untrusted("is not signed with ECDSA P-256 and SHA-256");
  }
  try {
    verifyP256(issuer.publicKey, certificate.tbs, certificate.signature);
  } catch (cause) {
    throw untrusted(`was not signed by ${nameOf(issuer)}`, cause);
  }
}

export function nameOf(certificate: Certificate): string {
  return JSON.stringify(certificate.commonName ?? "(no name)");
}

function readExtensions(tbs: DerReader): Map<string, Extension> {
  const found = new Map<string, Extension>();
  if (tbs.peek() !== DER.context(3)) return found;
  const wrapper = tbs.enter("extensions", DER.context(3));
  const list = wrapper.enter("extensions");
  wrapper.end();
  while (!list.done) {
    const extension = list.enter("extension");
    const oid = extension.oid("extnID");
    const critical = extension.peek() === DER.boolean && extension.boolean("critical");
    const value = extension.octetString("extnValue");
    extension.end();
    if (found.has(oid)) throw list.malformed(`extension ${oid}`, "repeats");
    if (found.size === MAX_EXTENSIONS) throw list.malformed("extensions", "are too many");
    found.set(oid, { critical, value });
  }
  return found;
}

function readBasicConstraints(extension: Extension | undefined): Certificate["ca"] {
  if (extension === undefined) return undefined;
  const outer = new DerReader(extension.value, "BasicConstraints");
  const constraints = outer.enter("BasicConstraints");
  outer.end();
  const isCa = constraints.peek() === DER.boolean && constraints.boolean("cA");
  const pathLength = constraints.done ? undefined : constraints.small("pathLenConstraint");
  constraints.end();
  return isCa ? { pathLength } : undefined;
}

function readKeyUsage(extension: Extension | undefined): number | undefined {
  if (extension === undefined) return undefined;
  const reader = new DerReader(extension.value, "KeyUsage");
  // Not `bitString()`: named bits end inside a byte, and the reference pads them to two.
  const content = reader.content("KeyUsage", DER.bitString);
  reader.end();
  if (content.length < 2 || content.length > 3 || content[0]! > 7) {
    throw reader.malformed("KeyUsage", "is not a list of named bits");
  }
  return content[1];
}

function readCommonName(name: Uint8Array): string | undefined {
  const outer = new DerReader(name, "Name");
  const names = outer.enter("Name");
  let commonName: string | undefined;
  while (!names.done) {
    const attributes = names.enter("relativeName", DER.set);
    while (!attributes.done) {
      const attribute = attributes.enter("attribute");
      const oid = attribute.oid("type");
      const value = attribute.any("value");
      attribute.end();
      const isText = value.tag === DER.utf8String || value.tag === DER.printableString;
      if (oid === X509_OID.commonName && isText) commonName = fromUtf8(value.content, "commonName");
    }
  }
  return commonName;
}

function readTime(reader: DerReader, field: string): Date {
  const { tag, content } = reader.any(field);
  const text = fromUtf8(content, field);
  const digits = tag === DER.utcTime && /^\d{12}Z$/.test(text)
    ? `${Number(text.slice(0, 2)) < 50 ? "20" : "19"}${text}`
    : tag === DER.generalizedTime && /^\d{14}Z$/.test(text)
    ? text
    : undefined;
  const iso = digits?.replace(/^(.{4})(..)(..)(..)(..)(..)Z$/, "$1-$2-$3T$4:$5:$6Z");
  const time = new Date(iso ?? Number.NaN);
  if (Number.isNaN(time.getTime())) throw reader.malformed(field, "is not a time in UTC");
  return time;
}
