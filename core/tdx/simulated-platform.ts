import { p256 } from "@noble/curves/nist.js";
import { sha256 } from "@noble/hashes/sha2.js";
import { ByteWriter } from "../bytes/byte-writer.ts";
import { concatBytes, fromHex, toHex, utf8 } from "../bytes/bytes.ts";
import { DER, der, derInteger, derOid } from "../encoding/der.ts";
import { encodePem } from "../encoding/pem.ts";
import {
  buildCrl,
  buildX509Certificate,
  type X509Authority,
  x509Name,
} from "../x509/x509-builder.ts";
import type { QuoteCollateral } from "./collateral.ts";
import { CERTIFICATION, encodeQuoteV4, encodeTdxSignedBytesV4 } from "./quote.ts";
import { encodeSgxReportBody } from "./sgx-report-body.ts";
import type { TdReportBody } from "./td-report-body.ts";

/**
 * Plays TDX module, quoting enclave and Intel for machines without a TEE (design section 5): signs
 * well-formed v4 quotes under a root of its own and serves the collateral that goes with it. It proves
 * nothing about hardware, and every certificate says SIMULATED.
 *
 * Deterministic: one 32-byte seed makes one platform for ever, and collateral depends on the seed and
 * the day alone. Whoever knows the seed can forge its quotes, so it is a secret of the host that plays.
 */
export interface SimulatedPlatform {
  readonly rootCertificateDer: Uint8Array;
  readonly rootCertificatePem: string;
  signQuote(td: SimulatedTdReport): Uint8Array;
  /** What verifies its quotes on the day of `now`. */
  collateral(now: Date): QuoteCollateral;
  /**
   * Answers a PCCS request (spec attestation.md 1.3): `path` from `/sgx/…` or `/tdx/…` on, `query`
   * without the question mark. Undefined for a path a PCCS does not have.
   */
  pccs(path: string, query: string | URLSearchParams, now: Date): PccsReply | undefined;
}

export interface PccsReply {
  readonly status: number;
  readonly headers: Readonly<Record<string, string>>;
  readonly body: Uint8Array;
}

/** What a VM's TD report says; the members a host chooses default to zero. */
export interface SimulatedTdReport {
  readonly mrTd: Uint8Array;
  readonly rtmrs: readonly [Uint8Array, Uint8Array, Uint8Array, Uint8Array];
  readonly reportData: Uint8Array;
  readonly mrConfigId?: Uint8Array;
  readonly mrOwner?: Uint8Array;
  readonly mrOwnerConfig?: Uint8Array;
  /** 8 bytes; the default is what a production TD has. */
  readonly tdAttributes?: Uint8Array;
}

const DAY_SECONDS = 86_400;
const COLLATERAL_DAYS = 30;
const NOT_BEFORE = Date.UTC(2024, 0, 1) / 1000;
const NOT_AFTER = Date.UTC(2049, 11, 31, 23, 59, 59) / 1000;

/** ASCII "SIM" and zeros: no machine of Intel's has this model. */
const FMSPC = fromHex("53494d000000");
const PCE_ID = fromHex("0000");
const PCE_SVN = 13;
const CPU_SVN = fromHex("03030202040100050000000000000000");
/** TDX module 1, security version 6; microcode 3. */
const TEE_TCB_SVN = fromHex("06010300000000000000000000000000");
const MR_SEAM = sha256Repeated("SIMULATED TDX module", 48);
/** SEPT_VE_DISABLE, as every guest kernel wants it; debug off. */
const TD_ATTRIBUTES = fromHex("0000001000000000");
const XFAM = fromHex("e742060000000000");
const QE_MR_SIGNER = sha256(utf8("SIMULATED quoting enclave signer"));
const QE_MR_ENCLAVE = sha256(utf8("SIMULATED quoting enclave"));
const QE_ATTRIBUTES = fromHex("11000000000000000000000000000000");
const QE_PROD_ID = 2;
const QE_SVN = 4;
const QE_AUTH_DATA = Uint8Array.from({ length: 32 }, (_, i) => i);
const EVALUATION_DATA_NUMBER = 1;
const SGX_EXTENSION = "1.2.840.113741.1.13.1";
const V4 = "certification/v4";

export function createSimulatedPlatform(seed: Uint8Array): SimulatedPlatform {
  if (seed.length !== 32) throw new TypeError("The seed of a simulated platform has 32 bytes");
  const root = authority(seed, "root", "SIMULATED SGX Root CA (not Intel, proves nothing)");
  const pckCa = authority(seed, "pck-ca", "SIMULATED SGX PCK Platform CA");
  const pck = authority(seed, "pck", "SIMULATED SGX PCK Certificate");
  const tcbSigner = authority(seed, "tcb-signing", "SIMULATED SGX TCB Signing");
  const attestationKey = deriveScalar(seed, "attestation-key");

  const window = { notBefore: NOT_BEFORE, notAfter: NOT_AFTER };
  const rootDer = buildX509Certificate({
    serial: 1n,
    issuer: root,
    subject: root,
    caPathLength: 1,
    ...window,
  });
  const pckCaDer = buildX509Certificate({
    serial: 2n,
    issuer: root,
    subject: pckCa,
    caPathLength: 0,
    ...window,
  });
  const tcbSignerDer = buildX509Certificate({
    serial: 3n,
    issuer: root,
    subject: tcbSigner,
    ...window,
  });
  const pckDer = buildX509Certificate({
    serial: 4n,
    issuer: pckCa,
    subject: pck,
    extensions: [[SGX_EXTENSION, sgxExtension(seed)]],
    ...window,
  });
  const pem = (...ders: readonly Uint8Array[]) =>
    ders.map((one) => encodePem("CERTIFICATE", one)).join("");
  const pckChain = pem(pckDer, pckCaDer, rootDer);
  const qeId = derive(seed, "qe-id", 0).subarray(0, 16);

  const collateral = (now: Date): QuoteCollateral => {
    const today = Math.floor(now.getTime() / 1000 / DAY_SECONDS) * DAY_SECONDS;
    // From yesterday on: a guest whose clock lags behind the host's is not turned away.
    const thisUpdate = today - DAY_SECONDS;
    const nextUpdate = today + COLLATERAL_DAYS * DAY_SECONDS;
    const dates = { issueDate: rfc3339(thisUpdate), nextUpdate: rfc3339(nextUpdate) };
    const tcbInfo = JSON.stringify(tcbInfoOf(dates));
    const qeIdentity = JSON.stringify(qeIdentityOf(dates));
    const updates = { thisUpdate, nextUpdate, revokedSerials: [] };
    return {
      pckCrlIssuerChain: pem(pckCaDer, rootDer),
      rootCaCrl: buildCrl({ issuer: root, ...updates }),
      pckCrl: buildCrl({ issuer: pckCa, ...updates }),
      tcbInfoIssuerChain: pem(tcbSignerDer, rootDer),
      tcbInfo,
      tcbInfoSignature: signRaw(tcbSigner.key, utf8(tcbInfo)),
      qeIdentityIssuerChain: pem(tcbSignerDer, rootDer),
      qeIdentity,
      qeIdentitySignature: signRaw(tcbSigner.key, utf8(qeIdentity)),
    };
  };

  return {
    rootCertificateDer: rootDer,
    rootCertificatePem: pem(rootDer),
    collateral,
    signQuote(td) {
      const userData = concatBytes(qeId, new Uint8Array(4));
      const signedBytes = encodeTdxSignedBytesV4(
        { qeSvn: 0, pceSvn: 0, userData },
        tdReportOf(td),
      );
      const publicKey = p256.getPublicKey(attestationKey, false).subarray(1);
      const qeReport = qeReportFor(publicKey);
      return encodeQuoteV4(signedBytes, {
        signature: signRaw(attestationKey, signedBytes),
        attestationKey: publicKey,
        qeReport,
        qeReportSignature: signRaw(pck.key, qeReport),
        qeAuthData: QE_AUTH_DATA,
        certification: { type: CERTIFICATION.pckChain, bytes: utf8(`${pckChain}\0`) },
      });
    },
    pccs: (path, query, now) => answer(path, new URLSearchParams(query), () => collateral(now)),
  };
}

function answer(
  path: string,
  query: URLSearchParams,
  collateral: () => QuoteCollateral,
): PccsReply | undefined {
  switch (path) {
    case `/sgx/${V4}/pckcrl`: {
      if (query.get("ca") !== "platform") return notFound("ca");
      const { pckCrl, pckCrlIssuerChain } = collateral();
      const isDer = query.get("encoding") === "der";
      return {
        status: 200,
        headers: {
          "content-type": isDer ? "application/pkix-crl" : "application/x-pem-file",
          "sgx-pck-crl-issuer-chain": encodeURIComponent(pckCrlIssuerChain),
        },
        body: isDer ? pckCrl : utf8(encodePem("X509 CRL", pckCrl)),
      };
    }
    case `/sgx/${V4}/rootcacrl`:
      return {
        status: 200,
        headers: { "content-type": "text/plain" },
        body: utf8(toHex(collateral().rootCaCrl)),
      };
    case `/tdx/${V4}/tcb`: {
      if (query.get("fmspc")?.toLowerCase() !== toHex(FMSPC)) return notFound("fmspc");
      const { tcbInfo, tcbInfoSignature, tcbInfoIssuerChain } = collateral();
      return signedText("tcbInfo", tcbInfo, tcbInfoSignature, {
        "tcb-info-issuer-chain": encodeURIComponent(tcbInfoIssuerChain),
      });
    }
    case `/tdx/${V4}/qe/identity`: {
      const { qeIdentity, qeIdentitySignature, qeIdentityIssuerChain } = collateral();
      return signedText("enclaveIdentity", qeIdentity, qeIdentitySignature, {
        "sgx-enclave-identity-issuer-chain": encodeURIComponent(qeIdentityIssuerChain),
      });
    }
    default:
      return undefined;
  }
}

function signedText(
  member: string,
  text: string,
  signature: Uint8Array,
  headers: Readonly<Record<string, string>>,
): PccsReply {
  return {
    status: 200,
    headers: { "content-type": "application/json", ...headers },
    body: utf8(`{"${member}":${text},"signature":"${toHex(signature)}"}`),
  };
}

function notFound(parameter: string): PccsReply {
  return {
    status: 404,
    headers: { "content-type": "text/plain" },
    body: utf8(`No collateral for this ${parameter}`),
  };
}

function tdReportOf(td: SimulatedTdReport): TdReportBody {
  const zero = new Uint8Array(48);
  return {
    teeTcbSvn: TEE_TCB_SVN,
    mrSeam: MR_SEAM,
    mrSignerSeam: zero,
    seamAttributes: new Uint8Array(8),
    tdAttributes: td.tdAttributes ?? TD_ATTRIBUTES,
    xfam: XFAM,
    mrTd: td.mrTd,
    mrConfigId: td.mrConfigId ?? zero,
    mrOwner: td.mrOwner ?? zero,
    mrOwnerConfig: td.mrOwnerConfig ?? zero,
    rtmrs: td.rtmrs,
    reportData: td.reportData,
  };
}

function qeReportFor(attestationKey: Uint8Array): Uint8Array {
  const binding = sha256(concatBytes(attestationKey, QE_AUTH_DATA));
  return encodeSgxReportBody({
    cpuSvn: CPU_SVN,
    miscSelect: 0,
    reserved1: new Uint8Array(28),
    attributes: QE_ATTRIBUTES,
    mrEnclave: QE_MR_ENCLAVE,
    reserved2: new Uint8Array(32),
    mrSigner: QE_MR_SIGNER,
    reserved3: new Uint8Array(96),
    isvProdId: QE_PROD_ID,
    isvSvn: QE_SVN,
    reserved4: new Uint8Array(60),
    reportData: concatBytes(binding, new Uint8Array(32)),
  });
}

/** The SGX extension of the PCK certificate (spec attestation.md 1.2). */
function sgxExtension(seed: Uint8Array): Uint8Array {
  const member = (suffix: string, value: Uint8Array) =>
    der(DER.sequence, derOid(`${SGX_EXTENSION}.${suffix}`), value);
  const octets = (bytes: Uint8Array) => der(DER.octetString, bytes);
  const components = Array.from(
    CPU_SVN,
    (svn, i) => member(`2.${i + 1}`, derInteger(BigInt(svn))),
  );
  return der(
    DER.sequence,
    member("1", octets(derive(seed, "ppid", 0).subarray(0, 16))),
    member(
      "2",
      der(
        DER.sequence,
        ...components,
        member("2.17", derInteger(BigInt(PCE_SVN))),
        member("2.18", octets(CPU_SVN)),
      ),
    ),
    member("3", octets(PCE_ID)),
    member("4", octets(FMSPC)),
    member("5", der(DER.enumerated, Uint8Array.of(1))),
    member("6", octets(derive(seed, "platform-instance", 0).subarray(0, 16))),
  );
}

interface Dates {
  readonly issueDate: string;
  readonly nextUpdate: string;
}

function tcbInfoOf(dates: Dates) {
  const svns = (bytes: Uint8Array) => Array.from(bytes, (svn) => ({ svn }));
  const module = {
    mrsigner: "00".repeat(48),
    attributes: "00".repeat(8),
    attributesMask: "FF".repeat(8),
  };
  const tcbDate = "2024-01-01T00:00:00Z";
  return {
    id: "TDX",
    version: 3,
    ...dates,
    fmspc: toHex(FMSPC).toUpperCase(),
    pceId: toHex(PCE_ID),
    tcbType: 0,
    tcbEvaluationDataNumber: EVALUATION_DATA_NUMBER,
    tdxModule: module,
    tdxModuleIdentities: [{
      id: "TDX_01",
      ...module,
      tcbLevels: [{ tcb: { isvsvn: TEE_TCB_SVN[0] }, tcbDate, tcbStatus: "UpToDate" }],
    }],
    tcbLevels: [{
      tcb: {
        sgxtcbcomponents: svns(CPU_SVN),
        pcesvn: PCE_SVN,
        tdxtcbcomponents: svns(TEE_TCB_SVN),
      },
      tcbDate,
      tcbStatus: "UpToDate",
    }],
  };
}

function qeIdentityOf(dates: Dates) {
  return {
    id: "TD_QE",
    version: 2,
    ...dates,
    tcbEvaluationDataNumber: EVALUATION_DATA_NUMBER,
    miscselect: "00000000",
    miscselectMask: "FFFFFFFF",
    attributes: toHex(QE_ATTRIBUTES).toUpperCase(),
    attributesMask: "FBFFFFFFFFFFFFFF0000000000000000",
    mrsigner: toHex(QE_MR_SIGNER).toUpperCase(),
    isvprodid: QE_PROD_ID,
    tcbLevels: [{
      tcb: { isvsvn: QE_SVN },
      tcbDate: "2024-01-01T00:00:00Z",
      tcbStatus: "UpToDate",
    }],
  };
}

function authority(seed: Uint8Array, label: string, commonName: string): X509Authority {
  return {
    name: x509Name("dstack-edge SIMULATED TEE", commonName),
    key: deriveScalar(seed, label),
  };
}

/** The first value of SHA-256(domain, seed, label, BE32 counter) that is a scalar of P-256. */
function deriveScalar(seed: Uint8Array, label: string): Uint8Array {
  for (let counter = 0;; counter++) {
    const candidate = derive(seed, label, counter);
    if (p256.utils.isValidSecretKey(candidate)) return candidate;
  }
}

function derive(seed: Uint8Array, label: string, counter: number): Uint8Array {
  const suffix = new ByteWriter().utf8(`:${label}:`).u32be(counter).finish();
  return sha256(concatBytes(utf8("dstack-edge-simulated-tee-v1:"), seed, suffix));
}

/** ECDSA P-256 with SHA-256, raw r || s, RFC 6979 nonce. */
function signRaw(key: Uint8Array, message: Uint8Array): Uint8Array {
  return p256.sign(message, key, { format: "compact", lowS: false });
}

function sha256Repeated(text: string, length: number): Uint8Array {
  const digest = sha256(utf8(text));
  return concatBytes(digest, digest).slice(0, length);
}

function rfc3339(seconds: number): string {
  return new Date(seconds * 1000).toISOString().replace(".000Z", "Z");
}
