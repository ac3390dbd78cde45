import { DER, DerReader } from "../encoding/der.ts";
import { AppError } from "../errors/app-error.ts";
import type { X509Certificate } from "../x509/x509-certificate.ts";

const SGX_EXTENSION = "1.2.840.113741.1.13.1";

/** What a PCK certificate says about its platform (Intel SGX PCK certificate specification, 1.3.5). */
export interface PckPlatform {
  /** 16 bytes, unique to the machine: the raw device id. */
  readonly ppid: Uint8Array;
  readonly cpuSvn: Uint8Array;
  readonly pceSvn: number;
  readonly pceId: Uint8Array;
  readonly fmspc: Uint8Array;
  /** 0 standard, 1 scalable, 2 scalable with integrity. */
  readonly sgxType: number;
  /** 16 bytes; only certificates of the platform CA have it. */
  readonly platformInstanceId: Uint8Array | undefined;
}

const known = new WeakMap<X509Certificate, PckPlatform>();

/** Reads the SGX extension of a PCK certificate, once. Throws `input/malformed`. */
export function pckPlatformOf(certificate: X509Certificate): PckPlatform {
  const platform = known.get(certificate) ?? readPlatform(certificate);
  known.set(certificate, platform);
  return platform;
}

function readPlatform(certificate: X509Certificate): PckPlatform {
  const extension = certificate.extensions.get(SGX_EXTENSION);
  if (extension === undefined) {
    throw new AppError("input/malformed", "Cannot parse PCK certificate: no SGX extension");
  }
  const members = readMembers(extension.value, "SGX extension");
  const member = (suffix: string) => required(members, `${SGX_EXTENSION}.${suffix}`);
  const tcb = readMembers(encodedOf(member("2")), "SGX extension TCB");
  const instance = members.get(`${SGX_EXTENSION}.6`);
  return {
    ppid: octets(member("1"), "PPID", 16),
    cpuSvn: octets(required(tcb, `${SGX_EXTENSION}.2.18`), "CPUSVN", 16),
    pceSvn: required(tcb, `${SGX_EXTENSION}.2.17`).small("PCESVN"),
    pceId: octets(member("3"), "PCEID", 2),
    fmspc: octets(member("4"), "FMSPC", 6),
    sgxType: member("5").small("SGX type", DER.enumerated),
    platformInstanceId: instance && octets(instance, "platform instance id", 16),
  };
}

/** Whether the processor or the platform CA issued the certificate: it names the PCK CRL to fetch. */
export function pckCaOf(certificate: X509Certificate): "processor" | "platform" {
  const issuer = new TextDecoder().decode(certificate.issuer);
  return !issuer.includes("Processor") && issuer.includes("Platform") ? "platform" : "processor";
}

/** SEQUENCE OF SEQUENCE { OID, value }, by OID; each reader stands before its value. */
function readMembers(encoded: Uint8Array, structure: string): Map<string, DerReader> {
  const outer = new DerReader(encoded, structure);
  const list = outer.enter("members");
  outer.end();
  const members = new Map<string, DerReader>();
  while (!list.done) {
    const member = list.enter("member");
    const oid = member.oid("OID");
    if (members.has(oid)) throw list.malformed("member", `${oid} is repeated`);
    members.set(oid, new DerReader(encodedOf(member), oid));
    member.end();
  }
  return members;
}

function encodedOf(reader: DerReader): Uint8Array {
  return reader.any("value").encoded;
}

function required(members: ReadonlyMap<string, DerReader>, oid: string): DerReader {
  const member = members.get(oid);
  if (member) return member;
  throw new AppError("input/malformed", `Cannot parse PCK certificate: no SGX extension ${oid}`);
}

function octets(reader: DerReader, field: string, length: number): Uint8Array {
  const bytes = reader.octetString(field);
  if (bytes.length !== length) throw reader.malformed(field, `is not ${length} bytes`);
  return bytes.slice();
}
