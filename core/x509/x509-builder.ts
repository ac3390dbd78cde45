import { p384 } from "@noble/curves/nist.js";
import { sha256 } from "@noble/hashes/sha2.js";
import { utf8 } from "../bytes/bytes.ts";
import { p256Spki, signP256 } from "../crypto/p256.ts";
import { DER, der, derBitString, derInteger, derOid } from "../encoding/der.ts";
import type { EcdsaCurve } from "./ecdsa.ts";
import { EXTENSION } from "./x509-certificate.ts";

/**
 * Builds the certificates and CRLs of a simulated vendor, byte for byte the same for the same input
 * (ECDSA nonces are those of RFC 6979). Real vendors' chains are only read.
 */

const ALGORITHMS: Readonly<Record<EcdsaCurve, Uint8Array>> = {
  "P-256": der(DER.sequence, derOid("1.2.840.10045.4.3.2")),
  "P-384": der(DER.sequence, derOid("1.2.840.10045.4.3.3")),
};
const COMMON_NAME = "2.5.4.3";
const ORGANIZATION = "2.5.4.10";

/** A name and its key, a scalar of the curve (P-256 when it does not say). */
export interface X509Authority {
  readonly name: Uint8Array;
  readonly key: Uint8Array;
  readonly curve?: EcdsaCurve;
}

export interface X509Spec {
  readonly serial: bigint;
  readonly issuer: X509Authority;
  readonly subject: X509Authority;
  /** Unix seconds. */
  readonly notBefore: number;
  readonly notAfter: number;
  /** SubjectPublicKeyInfo of a subject whose key is not known here. */
  readonly subjectSpki?: Uint8Array;
  /** Makes it a CA that allows so many CAs below. */
  readonly caPathLength?: number;
  /** Further extensions: OID, DER value, and whether it is critical. */
  readonly extensions?: readonly (readonly [oid: string, value: Uint8Array, critical?: boolean])[];
}

/** DER Name of an organization and a common name. */
export function x509Name(organization: string, commonName: string): Uint8Array {
  const attribute = (oid: string, text: string) =>
    der(DER.set, der(DER.sequence, derOid(oid), der(DER.utf8String, utf8(text))));
  return der(
    DER.sequence,
    attribute(COMMON_NAME, commonName),
    attribute(ORGANIZATION, organization),
  );
}

export function buildX509Certificate(spec: X509Spec): Uint8Array {
  const spki = spec.subjectSpki ?? spkiOf(spec.subject);
  const isCa = spec.caPathLength !== undefined;
  const constraints = isCa
    ? [der(DER.boolean, Uint8Array.of(0xff)), derInteger(BigInt(spec.caPathLength))]
    : [];
  // Bits from the left: CA keyCertSign 5 and cRLSign 6; others digitalSignature 0.
  const usage = isCa ? Uint8Array.of(1, 0x06) : Uint8Array.of(7, 0x80);
  const keyId = der(DER.octetString, sha256(spki).subarray(0, 20));
  const extensions = [
    extension(EXTENSION.subjectKeyIdentifier, keyId),
    extension(EXTENSION.keyUsage, der(DER.bitString, usage), true),
    extension(EXTENSION.basicConstraints, der(DER.sequence, ...constraints), true),
    ...(spec.extensions ?? []).map(([oid, value, critical]) => extension(oid, value, critical)),
  ];
  const tbs = der(
    DER.sequence,
    der(DER.context(0), derInteger(2n)),
    derInteger(spec.serial),
    algorithmOf(spec.issuer),
    spec.issuer.name,
    der(DER.sequence, x509Time(spec.notBefore), x509Time(spec.notAfter)),
    spec.subject.name,
    spki,
    der(DER.context(3), der(DER.sequence, ...extensions)),
  );
  return signed(tbs, spec.issuer);
}

export interface CrlSpec {
  readonly issuer: X509Authority;
  /** Unix seconds. */
  readonly thisUpdate: number;
  readonly nextUpdate: number;
  readonly revokedSerials: readonly bigint[];
}

export function buildCrl(spec: CrlSpec): Uint8Array {
  const thisUpdate = x509Time(spec.thisUpdate);
  const revoked = spec.revokedSerials.map((serial) =>
    der(DER.sequence, derInteger(serial), thisUpdate)
  );
  const number = extension(EXTENSION.crlNumber, derInteger(BigInt(spec.thisUpdate)));
  const tbs = der(
    DER.sequence,
    derInteger(1n),
    algorithmOf(spec.issuer),
    spec.issuer.name,
    thisUpdate,
    x509Time(spec.nextUpdate),
    ...(revoked.length === 0 ? [] : [der(DER.sequence, ...revoked)]),
    der(DER.context(0), der(DER.sequence, number)),
  );
  return signed(tbs, spec.issuer);
}

function signed(tbs: Uint8Array, issuer: X509Authority): Uint8Array {
  const signature = issuer.curve === "P-384"
    ? p384.sign(tbs, issuer.key, { format: "der", lowS: false })
    : signP256(issuer.key, tbs);
  return der(DER.sequence, tbs, algorithmOf(issuer), derBitString(signature));
}

function algorithmOf({ curve = "P-256" }: X509Authority): Uint8Array {
  return ALGORITHMS[curve];
}

function spkiOf({ key, curve }: X509Authority): Uint8Array {
  if (curve !== "P-384") return p256Spki(key);
  const algorithm = der(DER.sequence, derOid("1.2.840.10045.2.1"), derOid("1.3.132.0.34"));
  return der(DER.sequence, algorithm, derBitString(p384.getPublicKey(key, false)));
}

function extension(oid: string, value: Uint8Array, critical = false): Uint8Array {
  const flag = critical ? [der(DER.boolean, Uint8Array.of(0xff))] : [];
  return der(DER.sequence, derOid(oid), ...flag, der(DER.octetString, value));
}

/** UTCTime up to 2049, GeneralizedTime from 2050 on (RFC 5280 4.1.2.5). */
function x509Time(seconds: number): Uint8Array {
  const date = new Date(seconds * 1000);
  const digits = `${date.toISOString().replace(/[-:T]/g, "").slice(0, 14)}Z`;
  return date.getUTCFullYear() < 2050
    ? der(DER.utcTime, utf8(digits.slice(2)))
    : der(DER.generalizedTime, utf8(digits));
}
