import { toHex } from "../bytes/bytes.ts";
import { DER, DerReader } from "../encoding/der.ts";
import { COORDINATE_BYTES, CURVE_OIDS, EC_PUBLIC_KEY, type EcdsaCurve } from "./ecdsa.ts";
import { isAcceptableRsaKey } from "./rsa.ts";
import { type PublicKey, readSignatureAlgorithm, type SignatureAlgorithm } from "./signature.ts";

/** The largest certificate that is parsed, in bytes. Vendor certificates are near 1 KiB. */
const MAX_CERTIFICATE_BYTES = 64 * 1024;
const MAX_EXTENSIONS = 64;

export const EXTENSION = {
  subjectKeyIdentifier: "2.5.29.14",
  keyUsage: "2.5.29.15",
  crlNumber: "2.5.29.20",
  basicConstraints: "2.5.29.19",
  crlDistributionPoints: "2.5.29.31",
  authorityKeyIdentifier: "2.5.29.35",
  extendedKeyUsage: "2.5.29.37",
} as const;

const RSA_ENCRYPTION = "1.2.840.113549.1.1.1";
const CURVES = new Map(
  (Object.keys(CURVE_OIDS) as EcdsaCurve[]).map((curve) => [CURVE_OIDS[curve], curve]),
);

/** Bits of KeyUsage (RFC 5280 4.2.1.3), bit 0 first. */
export const KEY_USAGE = { digitalSignature: 0, keyCertSign: 5, cRLSign: 6 } as const;

export interface X509Extension {
  readonly critical: boolean;
  readonly value: Uint8Array;
}

/**
 * A parsed X.509 v3 certificate (RFC 5280 4.1) of a TEE vendor's chain. Parsing proves nothing:
 * `chain.ts` verifies.
 */
export interface X509Certificate {
  readonly encoded: Uint8Array;
  /** TBSCertificate as received: what the issuer signed. */
  readonly tbs: Uint8Array;
  /** Lower-case hex of the INTEGER's content. */
  readonly serial: string;
  /** DER names, compared byte by byte. */
  readonly issuer: Uint8Array;
  readonly subject: Uint8Array;
  /** Unix seconds, both inclusive. */
  readonly notBefore: number;
  readonly notAfter: number;
  /** Undefined for a key that is neither a point of P-256 or P-384 nor of RSA (2048 to 4096 bits). */
  readonly publicKey: PublicKey | undefined;
  readonly spki: Uint8Array;
  readonly extensions: ReadonlyMap<string, X509Extension>;
  readonly isCa: boolean;
  /** How many further CA certificates may follow below this one; undefined for no limit. */
  readonly pathLength: number | undefined;
  /** Undefined without the extension. */
  readonly keyUsage: ReadonlySet<number> | undefined;
  /** OIDs; undefined without the extension. */
  readonly extendedKeyUsage: readonly string[] | undefined;
  /** Undefined for an algorithm that nothing here verifies. */
  readonly signatureAlgorithm: SignatureAlgorithm | undefined;
  readonly signature: Uint8Array;
}

/** Parses one DER certificate; anything after it is refused. Throws `input/malformed`. */
export function parseX509Certificate(bytes: Uint8Array): X509Certificate {
  const outer = new DerReader(bytes, "certificate");
  if (bytes.length > MAX_CERTIFICATE_BYTES) throw outer.malformed("certificate", "is too large");
  const { tbs, signatureAlgorithm, algorithmIdentifier, signature } = readSigned(
    outer,
    "certificate",
  );

  const r = new DerReader(tbs, "certificate").enter("tbsCertificate");
  if (r.enter("version", DER.context(0)).small("version") !== 2) {
    throw r.malformed("version", "is not 3");
  }
  const serial = r.content("serialNumber", DER.integer);
  if (serial.length === 0 || serial.length > 21) throw r.malformed("serialNumber", "is too long");
  requireSameAlgorithm(r, algorithmIdentifier);
  const issuer = r.any("issuer").encoded;
  const validity = r.enter("validity");
  const notBefore = readTime(validity, "notBefore");
  const notAfter = readTime(validity, "notAfter");
  validity.end();
  const subject = r.any("subject").encoded;
  const spki = r.any("subjectPublicKeyInfo").encoded;
  r.optional("issuerUniqueID", DER.contextPrimitive(1));
  r.optional("subjectUniqueID", DER.contextPrimitive(2));
  const extensions = r.peek() === DER.context(3)
    ? readExtensions(r.enter("extensions", DER.context(3)))
    : new Map<string, X509Extension>();
  r.end();

  const { isCa, pathLength } = readBasicConstraints(extensions.get(EXTENSION.basicConstraints));
  return {
    encoded: bytes.slice(),
    tbs,
    serial: toHex(serial),
    issuer,
    subject,
    notBefore,
    notAfter,
    publicKey: readPublicKey(spki),
    spki,
    extensions,
    isCa,
    pathLength,
    keyUsage: readKeyUsage(extensions.get(EXTENSION.keyUsage)),
    extendedKeyUsage: readExtendedKeyUsage(extensions.get(EXTENSION.extendedKeyUsage)),
    signatureAlgorithm,
    signature,
  };
}

/** SEQUENCE { tbs, AlgorithmIdentifier, BIT STRING }: certificates and CRLs alike. */
export function readSigned(outer: DerReader, name: string) {
  const signed = outer.enter(name);
  outer.end();
  const tbs = signed.any("tbs").encoded;
  const algorithmIdentifier = signed.any("signatureAlgorithm").encoded;
  const signatureAlgorithm = readSignatureAlgorithm(algorithmIdentifier);
  const signature = signed.bitString("signatureValue");
  signed.end();
  return { tbs, algorithmIdentifier, signatureAlgorithm, signature };
}

/** RFC 5280 4.1.1.2: the algorithm inside the signed part and the one outside are the same. */
export function requireSameAlgorithm(r: DerReader, outer: Uint8Array): void {
  if (toHex(r.any("signature").encoded) !== toHex(outer)) {
    throw r.malformed("signature", "names another algorithm than signatureAlgorithm");
  }
}

/** UTCTime or GeneralizedTime in the one form of RFC 5280 4.1.2.5, as unix seconds. */
export function readTime(r: DerReader, field: string): number {
  const isUtc = r.peek() === DER.utcTime;
  const content = r.content(field, isUtc ? DER.utcTime : DER.generalizedTime);
  const yearDigits = isUtc ? 2 : 4;
  const end = yearDigits + 10;
  const digits = (from: number, count: number) => {
    let value = 0;
    for (let at = from; at < from + count; at++) {
      const digit = content[at]! - 0x30;
      if (!(digit >= 0 && digit <= 9)) throw r.malformed(field, "is not a time");
      value = value * 10 + digit;
    }
    return value;
  };
  const year = digits(0, yearDigits);
  const month = digits(end - 10, 2);
  const day = digits(end - 8, 2);
  const hour = digits(end - 6, 2);
  const minute = digits(end - 4, 2);
  const second = digits(end - 2, 2);
  const fullYear = isUtc ? year + (year < 50 ? 2000 : 1900) : year;
  const date = new Date(0);
  date.setUTCFullYear(fullYear, month - 1, day);
  date.setUTCHours(hour, minute, second);
  // A day, hour, minute or second out of range would have carried over.
  const isTime = content.length === end + 1 && content[end] === 0x5a && // Z
    date.getUTCMonth() === month - 1 && date.getUTCDate() === day &&
    date.getUTCHours() === hour && date.getUTCMinutes() === minute &&
    date.getUTCSeconds() === second;
  if (!isTime) throw r.malformed(field, "is not a time");
  return date.getTime() / 1000;
}

export function readExtensions(wrapper: DerReader): Map<string, X509Extension> {
  const list = wrapper.enter("extensions");
  wrapper.end();
  const extensions = new Map<string, X509Extension>();
  while (!list.done) {
    const one = list.enter("extension");
    const oid = one.oid("extnID");
    const critical = one.peek() === DER.boolean && one.boolean("critical");
    const value = one.octetString("extnValue");
    one.end();
    if (extensions.has(oid)) throw list.malformed("extension", `${oid} is repeated`);
    if (extensions.size === MAX_EXTENSIONS) throw list.malformed("extensions", "are too many");
    extensions.set(oid, { critical, value });
  }
  return extensions;
}

function readPublicKey(spki: Uint8Array): PublicKey | undefined {
  const outer = new DerReader(spki, "certificate.subjectPublicKeyInfo");
  const info = outer.enter("subjectPublicKeyInfo");
  outer.end();
  const algorithm = info.enter("algorithm");
  const oid = algorithm.oid("algorithm");
  const parameters = algorithm.peek();
  const curve = oid === EC_PUBLIC_KEY && parameters === DER.oid
    ? CURVES.get(algorithm.oid("namedCurve"))
    : undefined;
  if (oid === RSA_ENCRYPTION && parameters === DER.null) algorithm.any("parameters");
  if (!algorithm.done) return undefined;
  const key = info.bitString("subjectPublicKey");
  info.end();
  if (oid === RSA_ENCRYPTION) return isAcceptableRsaKey(key) ? { rsaSpki: spki } : undefined;
  if (curve === undefined) return undefined;
  const isPoint = key[0] === 4 && key.length === 1 + 2 * COORDINATE_BYTES[curve];
  return isPoint ? { curve, point: key } : undefined;
}

function readBasicConstraints(
  extension: X509Extension | undefined,
): { isCa: boolean; pathLength: number | undefined } {
  if (extension === undefined) return { isCa: false, pathLength: undefined };
  const outer = new DerReader(extension.value, "basicConstraints");
  const r = outer.enter("basicConstraints");
  outer.end();
  const isCa = r.peek() === DER.boolean && r.boolean("cA");
  const pathLength = r.done ? undefined : r.small("pathLenConstraint");
  r.end();
  if (!isCa && pathLength !== undefined) {
    throw r.malformed("pathLenConstraint", "stands in a certificate that is not a CA's");
  }
  return { isCa, pathLength };
}

function readKeyUsage(extension: X509Extension | undefined): ReadonlySet<number> | undefined {
  if (extension === undefined) return undefined;
  const r = new DerReader(extension.value, "keyUsage");
  const [unused, ...bytes] = r.content("keyUsage", DER.bitString);
  r.end();
  if (unused === undefined || unused > 7 || bytes.length > 2) {
    throw r.malformed("keyUsage", "is not a short BIT STRING");
  }
  const bits = new Set<number>();
  for (let bit = 0; bit < bytes.length * 8 - unused; bit++) {
    if (bytes[bit >> 3]! & (0x80 >> (bit & 7))) bits.add(bit);
  }
  return bits;
}

function readExtendedKeyUsage(extension: X509Extension | undefined): string[] | undefined {
  if (extension === undefined) return undefined;
  const outer = new DerReader(extension.value, "extKeyUsage");
  const r = outer.enter("extKeyUsage");
  outer.end();
  const usages: string[] = [];
  while (!r.done) usages.push(r.oid("KeyPurposeId"));
  return usages;
}
