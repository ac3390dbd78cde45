import { sha256 } from "@noble/hashes/sha2.js";
import { ByteWriter } from "#core/bytes/byte-writer.ts";
import { concatBytes, fromHex, toHex, utf8 } from "#core/bytes/bytes.ts";
import { DER, der, derInteger, derOid } from "#core/encoding/der.ts";
import {
  buildCertificate,
  buildRevocationList,
  type CertificateSpec,
  coordinatesOf,
  type CrlSpec,
  type Key,
  KEY_USAGE,
  keyOf,
  pemOf,
  sign,
} from "./pki.ts";

/**
 * One machine with everything that speaks for it: vendor, platform, quoting enclave, TEE. Plain data:
 * a case takes a good scene, spoils something in it, and builds. Layouts are those of
 * Intel's DCAP quote libraries (A.3, A.4), the JSON that of Intel's PCS API v4.
 */
export type SceneKind = "sgx-v3" | "tdx-v4" | "tdx-v5-td10" | "tdx-v5-td15";

export const SCENE_KINDS = ["sgx-v3", "tdx-v4", "tdx-v5-td10", "tdx-v5-td15"] as const;

/** 2026-06-01T12:00:00Z. */
export const NOW = Date.UTC(2026, 5, 1, 12) / 1000;
export const DAY = 86_400;

type CertificateName = "root" | "platformCa" | "pck" | "tcbSigner";

interface SvnLevel {
  tcb: Record<string, unknown>;
  tcbDate: string;
  tcbStatus: string;
  advisoryIDs?: string[];
}

interface TdxModuleJson {
  mrsigner: string;
  attributes: string;
  attributesMask: string;
}

/** TCB info as Intel signs it; `[other: string]` for what a case adds. */
export interface TcbInfoJson {
  id: string;
  version: number;
  issueDate: string;
  nextUpdate: string;
  fmspc: string;
  pceId: string;
  tcbType: number;
  tcbEvaluationDataNumber: number;
  tdxModule?: TdxModuleJson;
  tdxModuleIdentities?: ({ id: string; tcbLevels: SvnLevel[] } & TdxModuleJson)[];
  tcbLevels: SvnLevel[];
  [other: string]: unknown;
}

export interface QeIdentityJson {
  id: string;
  version: number;
  issueDate: string;
  nextUpdate: string;
  tcbEvaluationDataNumber: number;
  miscselect: string;
  miscselectMask: string;
  attributes: string;
  attributesMask: string;
  mrsigner: string;
  isvprodid: number;
  tcbLevels: SvnLevel[];
  [other: string]: unknown;
}

/** What a PCK certificate says in its SGX extension. */
interface PckSpec {
  ppid: Uint8Array;
  cpuSvn: Uint8Array;
  pceSvn: number;
  pceId: Uint8Array;
  fmspc: Uint8Array;
  sgxType: number;
  /** Members by their suffix that are left out or stand there twice. */
  omitted: string[];
  repeated: string[];
}

interface ReportSpec {
  cpuSvn: Uint8Array;
  miscSelect: Uint8Array;
  attributes: Uint8Array;
  mrEnclave: Uint8Array;
  mrSigner: Uint8Array;
  isvProdId: number;
  isvSvn: number;
  reportData: Uint8Array;
}

export interface Scene {
  kind: SceneKind;
  header: {
    version: number;
    keyType: number;
    teeType: number;
    vendorId: Uint8Array;
  };
  /** Of v5 quotes. */
  body: { type: number; size: number };
  td: Record<string, Uint8Array>;
  enclave: ReportSpec;
  certificates: Record<CertificateName, CertificateSpec>;
  crls: { root: CrlSpec; pck: CrlSpec };
  /** Certificates in the order their chain has them. */
  chains: Record<"pck" | "pckCrl" | "tcbInfo" | "qeIdentity", CertificateName[]>;
  pck: PckSpec;
  tcbInfo: TcbInfoJson;
  qeIdentity: QeIdentityJson;
  tcbInfoSigner: Key;
  qeIdentitySigner: Key;
  attestationKey: Key;
  qeReportSigner: Key;
  qeReport: ReportSpec;
  qeAuthData: Uint8Array;
  /** Follows the hash of key and authentication data in the QE's report data. */
  qeReportDataTail: Uint8Array;
  certification: { type: number; bytes: Uint8Array | "chain" };
  /** Whether the collateral brings the PCK chain, as for quotes with an encrypted PPID. */
  pckChainInCollateral: boolean;
}

/** What a verifier gets. */
export interface Material {
  quote: Uint8Array;
  collateral: CollateralJson;
  /** PEM. */
  root: string;
}

export interface CollateralJson {
  pck_crl_issuer_chain: string;
  root_ca_crl: string;
  pck_crl: string;
  tcb_info_issuer_chain: string;
  tcb_info: string;
  tcb_info_signature: string;
  qe_identity_issuer_chain: string;
  qe_identity: string;
  qe_identity_signature: string;
  pck_certificate_chain?: string;
}

const CPU_SVN = fromHex("05050202030100050000000000000000");
const TEE_TCB_SVN = fromHex("06010400000000000000000000000000");
const PCE_SVN = 11;
const FMSPC = fromHex("c0f0ee000001");
const QE_SVN = 6;
const ROOT = "Conformance SGX Root CA";
const PLATFORM_CA = "Conformance SGX PCK Platform CA";
const SGX = "1.2.840.113741.1.13.1";
const TCB_DATE = "2026-01-01T00:00:00Z";

export const rfc3339 = (seconds: number) =>
  new Date(seconds * 1000).toISOString().replace(".000Z", "Z");

/** A scene in which everything is as it should be. */
export function goodScene(kind: SceneKind): Scene {
  const isTdx = kind !== "sgx-v3";
  const validity = { notBefore: NOW - 100 * DAY, notAfter: NOW + 100 * DAY };
  const updates = { thisUpdate: NOW - DAY, nextUpdate: NOW + 30 * DAY };
  const dates = { issueDate: rfc3339(NOW - DAY), nextUpdate: rfc3339(NOW + 30 * DAY) };
  const keys = {
    root: keyOf("root"),
    platformCa: keyOf("platform CA"),
    pck: keyOf("PCK"),
    tcbSigner: keyOf("TCB signing"),
  };
  const ca = [KEY_USAGE.keyCertSign, KEY_USAGE.cRLSign];
  const plain = { ...validity, extendedKeyUsage: undefined, extensions: [] };
  const endEntity = { ...plain, ca: undefined, keyUsage: [KEY_USAGE.digitalSignature as number] };
  return {
    kind,
    header: {
      version: Number(kind[5]),
      keyType: 2,
      teeType: isTdx ? 0x81 : 0,
      vendorId: fromHex("939a7233f79c4ca9940a0db3957f0607"),
    },
    body: kind === "tdx-v5-td15" ? { type: 3, size: 648 } : { type: 2, size: 584 },
    td: {
      teeTcbSvn: TEE_TCB_SVN.slice(),
      mrSeam: filled(48, 0x5e),
      mrSignerSeam: filled(48, 0),
      seamAttributes: filled(8, 0),
      tdAttributes: fromHex("0000001000000000"),
      xfam: fromHex("e702060000000000"),
      mrTd: filled(48, 0x70),
      mrConfigId: filled(48, 0),
      mrOwner: filled(48, 0),
      mrOwnerConfig: filled(48, 0),
      rtmr0: filled(48, 0x10),
      rtmr1: filled(48, 0x11),
      rtmr2: filled(48, 0x12),
      rtmr3: filled(48, 0x13),
      reportData: filled(64, 0xda),
      ...(kind === "tdx-v5-td15"
        ? { teeTcbSvn2: TEE_TCB_SVN.slice(), mrServiceTd: filled(48, 0) }
        : {}),
    },
    enclave: {
      ...report("application enclave"),
      reportData: filled(64, 0xda),
    },
    certificates: {
      root: {
        ...plain,
        serial: 1n,
        subject: ROOT,
        issuer: ROOT,
        key: keys.root,
        signer: keys.root,
        ca: { pathLength: 1 },
        keyUsage: ca.slice(),
      },
      platformCa: {
        ...plain,
        serial: 2n,
        subject: PLATFORM_CA,
        issuer: ROOT,
        key: keys.platformCa,
        signer: keys.root,
        ca: { pathLength: 0 },
        keyUsage: ca.slice(),
      },
      pck: {
        ...endEntity,
        keyUsage: endEntity.keyUsage.slice(),
        extensions: [],
        serial: 3n,
        subject: "Conformance SGX PCK Certificate",
        issuer: PLATFORM_CA,
        key: keys.pck,
        signer: keys.platformCa,
      },
      tcbSigner: {
        ...endEntity,
        keyUsage: endEntity.keyUsage.slice(),
        extensions: [],
        serial: 4n,
        subject: "Conformance SGX TCB Signing",
        issuer: ROOT,
        key: keys.tcbSigner,
        signer: keys.root,
      },
    },
    crls: {
      root: { ...updates, issuer: ROOT, signer: keys.root, ...noEntries() },
      pck: { ...updates, issuer: PLATFORM_CA, signer: keys.platformCa, ...noEntries() },
    },
    chains: {
      pck: ["pck", "platformCa", "root"],
      pckCrl: ["platformCa", "root"],
      tcbInfo: ["tcbSigner", "root"],
      qeIdentity: ["tcbSigner", "root"],
    },
    pck: {
      ppid: filled(16, 0x99),
      cpuSvn: CPU_SVN.slice(),
      pceSvn: PCE_SVN,
      pceId: filled(2, 0),
      fmspc: FMSPC.slice(),
      sgxType: 1,
      omitted: [],
      repeated: [],
    },
    tcbInfo: {
      id: isTdx ? "TDX" : "SGX",
      version: 3,
      ...dates,
      fmspc: toHex(FMSPC).toUpperCase(),
      pceId: "0000",
      tcbType: 0,
      tcbEvaluationDataNumber: 18,
      ...(isTdx ? tdxModules() : {}),
      tcbLevels: [
        tcbLevel(isTdx, "UpToDate", CPU_SVN, PCE_SVN, TEE_TCB_SVN),
        // Everything one step older; what is older still reaches no level.
        tcbLevel(isTdx, "OutOfDate", lowered(CPU_SVN), PCE_SVN - 1, lowered(TEE_TCB_SVN), [
          "INTEL-SA-00001",
        ]),
      ],
    },
    qeIdentity: {
      id: isTdx ? "TD_QE" : "QE",
      version: 2,
      ...dates,
      tcbEvaluationDataNumber: 18,
      miscselect: "00000000",
      miscselectMask: "FFFFFFFF",
      attributes: "11000000000000000000000000000000",
      attributesMask: "FBFFFFFFFFFFFFFF0000000000000000",
      mrsigner: toHex(sha256(utf8("quoting enclave signer"))),
      isvprodid: 2,
      tcbLevels: [
        { tcb: { isvsvn: QE_SVN }, tcbDate: TCB_DATE, tcbStatus: "UpToDate" },
        { tcb: { isvsvn: QE_SVN - 1 }, tcbDate: TCB_DATE, tcbStatus: "OutOfDate" },
      ],
    },
    tcbInfoSigner: keys.tcbSigner,
    qeIdentitySigner: keys.tcbSigner,
    attestationKey: keyOf("attestation"),
    qeReportSigner: keys.pck,
    qeReport: { ...report("quoting enclave"), isvProdId: 2, isvSvn: QE_SVN },
    qeAuthData: Uint8Array.from({ length: 32 }, (_, i) => i),
    qeReportDataTail: filled(32, 0),
    certification: { type: 5, bytes: "chain" },
    pckChainInCollateral: false,
  };
}

export function build(scene: Scene): Material {
  const { certificates, chains, crls } = scene;
  const encoded = {
    root: buildCertificate(certificates.root),
    platformCa: buildCertificate(certificates.platformCa),
    pck: buildCertificate({
      ...certificates.pck,
      extensions: [
        ...(scene.pck.omitted.includes("extension")
          ? []
          : [{ oid: SGX, value: sgxExtension(scene.pck), critical: false }]),
        ...certificates.pck.extensions,
      ],
    }),
    tcbSigner: buildCertificate(certificates.tcbSigner),
  };
  const chain = (names: readonly CertificateName[]) => pemOf(...names.map((name) => encoded[name]));
  const tcbInfo = JSON.stringify(scene.tcbInfo);
  const qeIdentity = JSON.stringify(scene.qeIdentity);
  return {
    quote: buildQuote(scene, chain(chains.pck)),
    root: pemOf(encoded.root),
    collateral: {
      pck_crl_issuer_chain: chain(chains.pckCrl),
      root_ca_crl: toHex(buildRevocationList(crls.root)),
      pck_crl: toHex(buildRevocationList(crls.pck)),
      tcb_info_issuer_chain: chain(chains.tcbInfo),
      tcb_info: tcbInfo,
      tcb_info_signature: toHex(sign(scene.tcbInfoSigner, utf8(tcbInfo))),
      qe_identity_issuer_chain: chain(chains.qeIdentity),
      qe_identity: qeIdentity,
      qe_identity_signature: toHex(sign(scene.qeIdentitySigner, utf8(qeIdentity))),
      ...(scene.pckChainInCollateral ? { pck_certificate_chain: chain(chains.pck) } : {}),
    },
  };
}

/** Where in a quote its parts start, in bytes. */
export function offsetsOf(kind: SceneKind) {
  const body = kind.startsWith("tdx-v5") ? 54 : 48;
  const bodyBytes = { "sgx-v3": 384, "tdx-v4": 584, "tdx-v5-td10": 584, "tdx-v5-td15": 648 }[kind];
  const authLength = body + bodyBytes;
  const signature = authLength + 4;
  const wrapper = kind === "sgx-v3" ? 0 : 6; // type and length of the QE report certification data
  const qeReport = signature + 128 + wrapper;
  return {
    body,
    authLength,
    signature,
    attestationKey: signature + 64,
    certificationType: signature + 128,
    qeReport,
    qeReportSignature: qeReport + 384,
    qeAuthLength: qeReport + 448,
    innerType: qeReport + 450 + 32,
    innerLength: qeReport + 450 + 34,
    chain: qeReport + 450 + 38,
  };
}

function buildQuote(scene: Scene, pckChain: string): Uint8Array {
  const { header, kind } = scene;
  const w = new ByteWriter()
    .u16le(header.version).u16le(header.keyType).u32le(header.teeType)
    .zeros(4).bytes(header.vendorId).zeros(20);
  if (kind.startsWith("tdx-v5")) w.u16le(scene.body.type).u32le(scene.body.size);
  if (kind === "sgx-v3") w.bytes(reportBytes(scene.enclave));
  else for (const field of Object.values(scene.td)) w.bytes(field);
  const signedPart = w.finish();

  const key = coordinatesOf(scene.attestationKey);
  const binding = sha256(concatBytes(key, scene.qeAuthData));
  const qeReport = reportBytes({
    ...scene.qeReport,
    reportData: concatBytes(binding, scene.qeReportDataTail),
  });
  const { bytes, type } = scene.certification;
  const inner = bytes === "chain" ? utf8(`${pckChain}\0`) : bytes;
  const certification = new ByteWriter()
    .bytes(qeReport).bytes(sign(scene.qeReportSigner, qeReport))
    .u16le(scene.qeAuthData.length).bytes(scene.qeAuthData)
    .u16le(type).u32le(inner.length).bytes(inner)
    .finish();
  const auth = new ByteWriter().bytes(sign(scene.attestationKey, signedPart)).bytes(key);
  if (kind !== "sgx-v3") auth.u16le(6).u32le(certification.length);
  auth.bytes(certification);
  return concatBytes(
    signedPart,
    new ByteWriter().u32le(auth.length).finish(),
    auth.finish(),
  );
}

function reportBytes(spec: ReportSpec): Uint8Array {
  return new ByteWriter()
    .bytes(spec.cpuSvn).bytes(spec.miscSelect).zeros(28).bytes(spec.attributes)
    .bytes(spec.mrEnclave).zeros(32).bytes(spec.mrSigner).zeros(96)
    .u16le(spec.isvProdId).u16le(spec.isvSvn).zeros(60).bytes(spec.reportData)
    .finish();
}

function report(name: string): ReportSpec {
  return {
    cpuSvn: CPU_SVN.slice(),
    miscSelect: filled(4, 0),
    attributes: fromHex("1100000000000000e700000000000000"),
    mrEnclave: sha256(utf8(name)),
    mrSigner: sha256(utf8(`${name} signer`)),
    isvProdId: 1,
    isvSvn: 1,
    reportData: filled(64, 0),
  };
}

function sgxExtension(pck: PckSpec): Uint8Array {
  const octets = (bytes: Uint8Array) => der(DER.octetString, bytes);
  const member = (suffix: string, value: Uint8Array) => {
    if (pck.omitted.includes(suffix)) return [];
    const one = der(DER.sequence, derOid(`${SGX}.${suffix}`), value);
    return pck.repeated.includes(suffix) ? [one, one] : [one];
  };
  const tcb = [
    ...Array.from(pck.cpuSvn, (svn, i) => member(`2.${i + 1}`, derInteger(BigInt(svn)))).flat(),
    ...member("2.17", derInteger(BigInt(pck.pceSvn))),
    ...member("2.18", octets(pck.cpuSvn)),
  ];
  return der(
    DER.sequence,
    ...member("1", octets(pck.ppid)),
    ...member("2", der(DER.sequence, ...tcb)),
    ...member("3", octets(pck.pceId)),
    ...member("4", octets(pck.fmspc)),
    ...member("5", der(DER.enumerated, Uint8Array.of(pck.sgxType))),
  );
}

function tcbLevel(
  isTdx: boolean,
  tcbStatus: string,
  cpuSvn: Uint8Array,
  pcesvn: number,
  teeTcbSvn: Uint8Array,
  advisoryIDs?: string[],
): SvnLevel {
  const svns = (bytes: Uint8Array) => Array.from(bytes, (svn) => ({ svn }));
  return {
    tcb: {
      sgxtcbcomponents: svns(cpuSvn),
      pcesvn,
      ...(isTdx ? { tdxtcbcomponents: svns(teeTcbSvn) } : {}),
    },
    tcbDate: TCB_DATE,
    tcbStatus,
    ...(advisoryIDs ? { advisoryIDs } : {}),
  };
}

function tdxModules() {
  const tdxModule = {
    mrsigner: "00".repeat(48),
    attributes: "00".repeat(8),
    attributesMask: "FF".repeat(8),
  };
  return {
    tdxModule,
    tdxModuleIdentities: [{
      id: "TDX_01",
      ...tdxModule,
      tcbLevels: [
        { tcb: { isvsvn: TEE_TCB_SVN[0] }, tcbDate: TCB_DATE, tcbStatus: "UpToDate" },
        { tcb: { isvsvn: TEE_TCB_SVN[0]! - 1 }, tcbDate: TCB_DATE, tcbStatus: "OutOfDate" },
      ],
    }],
  };
}

export function filled(length: number, value: number): Uint8Array {
  return new Uint8Array(length).fill(value);
}

/** Each number above zero one less. */
function lowered(svns: Uint8Array): Uint8Array {
  return svns.map((svn) => Math.max(0, svn - 1));
}

function noEntries() {
  return { revoked: [] as bigint[], criticalExtension: false };
}
