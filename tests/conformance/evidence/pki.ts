import { p256 } from "@noble/curves/nist.js";
import { sha256 } from "@noble/hashes/sha2.js";
import { concatBytes, utf8 } from "#core/bytes/bytes.ts";
import { DER, der, derBitString, derInteger, derOid } from "#core/encoding/der.ts";
import { encodePem } from "#core/encoding/pem.ts";

/**
 * Certificates and CRLs of a vendor of our own (RFC 5280), right or wrong in whatever way a case says.
 * Byte for byte the same for the same input: nonces are those of RFC 6979.
 */

/** A P-256 scalar. */
export type Key = Uint8Array;

export function keyOf(label: string): Key {
  return sha256(utf8(`conformance kit, key of ${label}`));
}

export interface CertificateSpec {
  serial: bigint;
  subject: string;
  issuer: string;
  /** The subject's. */
  key: Key;
  /** The issuer's. */
  signer: Key;
  /** Unix seconds. */
  notBefore: number;
  notAfter: number;
  /** Undefined: no CA. `pathLength` undefined: no limit. */
  ca: { pathLength: number | undefined } | undefined;
  /** Bits of KeyUsage, 0 the first; undefined: no such extension. */
  keyUsage: number[] | undefined;
  /** OIDs; undefined: no such extension. */
  extendedKeyUsage: string[] | undefined;
  extensions: { oid: string; value: Uint8Array; critical: boolean }[];
}

export interface CrlSpec {
  issuer: string;
  signer: Key;
  thisUpdate: number;
  nextUpdate: number;
  revoked: bigint[];
  /** Serial number of the list itself, and whether an unknown extension is critical. */
  criticalExtension: boolean;
}

export const KEY_USAGE = { digitalSignature: 0, keyCertSign: 5, cRLSign: 6 } as const;

const ECDSA_WITH_SHA256 = der(DER.sequence, derOid("1.2.840.10045.4.3.2"));

export function buildCertificate(spec: CertificateSpec): Uint8Array {
  const extensions = [
    ...(spec.keyUsage ? [extension("2.5.29.15", keyUsage(spec.keyUsage), true)] : []),
    ...(spec.ca ? [extension("2.5.29.19", basicConstraints(spec.ca.pathLength), true)] : []),
    ...(spec.extendedKeyUsage
      ? [extension("2.5.29.37", der(DER.sequence, ...spec.extendedKeyUsage.map(derOid)), false)]
      : []),
    ...spec.extensions.map(({ oid, value, critical }) => extension(oid, value, critical)),
  ];
  return signed(
    der(
      DER.sequence,
      der(DER.context(0), derInteger(2n)),
      derInteger(spec.serial),
      ECDSA_WITH_SHA256,
      nameOf(spec.issuer),
      der(DER.sequence, time(spec.notBefore), time(spec.notAfter)),
      nameOf(spec.subject),
      publicKeyInfo(spec.key),
      ...(extensions.length > 0 ? [der(DER.context(3), der(DER.sequence, ...extensions))] : []),
    ),
    spec.signer,
  );
}

export function buildRevocationList(spec: CrlSpec): Uint8Array {
  const revoked = spec.revoked.map((serial) =>
    der(DER.sequence, derInteger(serial), time(spec.thisUpdate))
  );
  const extensions = [
    extension("2.5.29.20", derInteger(1n), false),
    ...(spec.criticalExtension ? [extension("2.5.29.28", der(DER.sequence), true)] : []),
  ];
  return signed(
    der(
      DER.sequence,
      derInteger(1n),
      ECDSA_WITH_SHA256,
      nameOf(spec.issuer),
      time(spec.thisUpdate),
      time(spec.nextUpdate),
      ...(revoked.length > 0 ? [der(DER.sequence, ...revoked)] : []),
      der(DER.context(0), der(DER.sequence, ...extensions)),
    ),
    spec.signer,
  );
}

export function pemOf(...certificates: readonly Uint8Array[]): string {
  return certificates.map((one) => encodePem("CERTIFICATE", one)).join("");
}

/** Raw `x || y`. */
export function coordinatesOf(key: Key): Uint8Array {
  return p256.getPublicKey(key, false).slice(1);
}

/** Raw `r || s` over SHA-256. Cases share most of what is signed, so each text is signed once. */
export function sign(key: Key, message: Uint8Array): Uint8Array {
  const id = `${hexOf(key)} ${hexOf(sha256(message))}`;
  const signature = signatures.get(id) ?? p256.sign(message, key, { lowS: false });
  signatures.set(id, signature);
  return signature.slice();
}

const signatures = new Map<string, Uint8Array>();

function hexOf(bytes: Uint8Array): string {
  return Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");
}

function signed(tbs: Uint8Array, key: Key): Uint8Array {
  const raw = sign(key, tbs);
  const integer = (bytes: Uint8Array) => derInteger(BigInt(`0x${hexOf(bytes)}`));
  const pair = der(DER.sequence, integer(raw.subarray(0, 32)), integer(raw.subarray(32)));
  return der(DER.sequence, tbs, ECDSA_WITH_SHA256, derBitString(pair));
}

function publicKeyInfo(key: Key): Uint8Array {
  const algorithm = der(
    DER.sequence,
    derOid("1.2.840.10045.2.1"),
    derOid("1.2.840.10045.3.1.7"),
  );
  const point = concatBytes(Uint8Array.of(4), coordinatesOf(key));
  return der(DER.sequence, algorithm, derBitString(point));
}

function nameOf(commonName: string): Uint8Array {
  const attribute = der(DER.sequence, derOid("2.5.4.3"), der(DER.utf8String, utf8(commonName)));
  return der(DER.sequence, der(DER.set, attribute));
}

function extension(oid: string, value: Uint8Array, critical: boolean): Uint8Array {
  const flag = critical ? [der(DER.boolean, Uint8Array.of(0xff))] : [];
  return der(DER.sequence, derOid(oid), ...flag, der(DER.octetString, value));
}

function basicConstraints(pathLength: number | undefined): Uint8Array {
  const limit = pathLength === undefined ? [] : [derInteger(BigInt(pathLength))];
  return der(DER.sequence, der(DER.boolean, Uint8Array.of(0xff)), ...limit);
}

/** A named bit list (X.690 11.2.2): no trailing zero bits. */
function keyUsage(bits: readonly number[]): Uint8Array {
  const last = Math.max(...bits);
  const bytes = new Uint8Array(1 + (last >> 3));
  for (const bit of bits) bytes[bit >> 3]! |= 0x80 >> (bit & 7);
  return der(DER.bitString, Uint8Array.of(7 - (last & 7)), bytes);
}

function time(seconds: number): Uint8Array {
  const digits = new Date(seconds * 1000).toISOString().replace(/[-:T]/g, "").slice(0, 14);
  return digits < "2050"
    ? der(DER.utcTime, utf8(`${digits.slice(2)}Z`))
    : der(DER.generalizedTime, utf8(`${digits}Z`));
}
