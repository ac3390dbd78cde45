import { ByteReader } from "../bytes/byte-reader.ts";
import { ByteWriter } from "../bytes/byte-writer.ts";
import { equalBytes, fromHex, isZero } from "../bytes/bytes.ts";
import { AppError } from "../errors/app-error.ts";
import { readSgxReportBody, SGX_REPORT_BODY_BYTES, type SgxReportBody } from "./sgx-report-body.ts";
import {
  encodeTdReportBody,
  readTdReportBody,
  TD_REPORT_10_BYTES,
  TD_REPORT_15_BYTES,
  type TdReportBody,
} from "./td-report-body.ts";

/** The largest quote that is parsed, in bytes; real ones are near 5 KiB. */
export const MAX_QUOTE_BYTES = 256 * 1024;

const HEADER_BYTES = 48;
const ECDSA_P256 = 2;
const TEE_SGX = 0x00000000;
const TEE_TDX = 0x00000081;
const INTEL_QE_VENDOR_ID = fromHex("939a7233f79c4ca9940a0db3957f0607");

/** Kinds of certification data (Intel TDX DCAP quote library reference, A.3.9). */
export const CERTIFICATION = {
  encryptedPpidRsa2048: 2,
  encryptedPpidRsa3072: 3,
  pckLeaf: 4,
  pckChain: 5,
  qeReport: 6,
} as const;

export interface QuoteHeader {
  readonly version: 3 | 4 | 5;
  readonly tee: "sgx" | "tdx";
  readonly qeSvn: number;
  readonly pceSvn: number;
  /** 20 bytes; the first 16 name the platform's quoting enclave (QE ID). */
  readonly userData: Uint8Array;
}

export type QuoteBody =
  | { readonly kind: "sgx"; readonly report: SgxReportBody }
  | { readonly kind: "td10" | "td15"; readonly report: TdReportBody };

/** The signature section: the quote's signature and what certifies the key that made it. */
export interface QuoteSignatureData {
  /** ECDSA P-256 over `signedBytes`, raw r || s. */
  readonly signature: Uint8Array;
  /** The attestation key, raw x || y. */
  readonly attestationKey: Uint8Array;
  /** The quoting enclave's report, 384 bytes as the PCK key signed them. */
  readonly qeReport: Uint8Array;
  readonly qeReportSignature: Uint8Array;
  readonly qeAuthData: Uint8Array;
  /** PEM chain for type 5, leaf first; see CERTIFICATION. */
  readonly certification: { readonly type: number; readonly bytes: Uint8Array };
}

export interface Quote {
  readonly header: QuoteHeader;
  readonly body: QuoteBody;
  /** Header and body as received: what the attestation key signed. */
  readonly signedBytes: Uint8Array;
  readonly signatureData: QuoteSignatureData;
  /** The quote without padding. */
  readonly bytes: Uint8Array;
}

/**
 * Parses an SGX (v3) or TDX (v4, v5) ECDSA quote. Every length is compared with what the version
 * fixes. Quotes come out of fixed-size buffers, so zero padding after the last field is tolerated
 * (real captures have 70 such bytes); any other trailing byte is refused.
 * Throws `input/malformed` or `input/unsupported`.
 */
export function parseQuote(bytes: Uint8Array): Quote {
  if (bytes.length > MAX_QUOTE_BYTES) {
    throw new AppError("input/too-large", `Cannot parse quote: ${bytes.length} bytes`);
  }
  const r = new ByteReader(bytes, "quote");
  const header = readHeader(r);
  const body = readBody(r, header);
  const signedBytes = bytes.slice(0, r.offset);
  const signatureLength = r.u32le("signature data length");
  const section = r.bounded("signature data", signatureLength, MAX_QUOTE_BYTES);
  const end = r.offset;
  if (!isZero(r.rest())) throw r.malformed("padding", "after the signature data is not zero");
  return {
    header,
    body,
    signedBytes,
    signatureData: parseSignatureData(section, header.version),
    bytes: bytes.slice(0, end),
  };
}

function readHeader(r: ByteReader): QuoteHeader {
  const version = r.u16le("version");
  if (version !== 3 && version !== 4 && version !== 5) {
    throw unsupported(`version ${version}, expected 3, 4 or 5`);
  }
  const keyType = r.u16le("attestation key type");
  if (keyType !== ECDSA_P256) throw unsupported(`attestation key type ${keyType}, expected 2`);
  const teeType = r.u32le("TEE type");
  if (teeType !== TEE_SGX && teeType !== TEE_TDX) {
    throw unsupported(`TEE type 0x${teeType.toString(16)}, expected 0 (SGX) or 0x81 (TDX)`);
  }
  const tee = teeType === TEE_TDX ? "tdx" : "sgx";
  if ((tee === "sgx") !== (version === 3)) throw unsupported(`version ${version} of TEE ${tee}`);
  const qeSvn = r.u16le("QE SVN");
  const pceSvn = r.u16le("PCE SVN");
  if (!equalBytes(r.bytes("QE vendor id", 16), INTEL_QE_VENDOR_ID)) {
    throw unsupported("QE vendor id is not Intel's");
  }
  return { version, tee, qeSvn, pceSvn, userData: r.bytes("user data", 20) };
}

function readBody(r: ByteReader, header: QuoteHeader): QuoteBody {
  if (header.version === 3) return { kind: "sgx", report: readSgxReportBody(r) };
  if (header.version === 4) return { kind: "td10", report: readTdReportBody(r, "td10") };
  const type = r.u16le("body type");
  const size = r.u32le("body size");
  if (type !== 2 && type !== 3) throw unsupported(`body type ${type}, expected 2 or 3`);
  const expected = type === 2 ? TD_REPORT_10_BYTES : TD_REPORT_15_BYTES;
  if (size !== expected) {
    throw r.malformed("body size", `${size}, expected ${expected} for body type ${type}`);
  }
  const kind = type === 2 ? "td10" : "td15";
  return { kind, report: readTdReportBody(r, kind) };
}

function parseSignatureData(section: Uint8Array, version: 3 | 4 | 5): QuoteSignatureData {
  const r = new ByteReader(section, "quote signature data");
  const signature = r.bytes("signature", 64);
  const attestationKey = r.bytes("attestation key", 64);
  if (version === 3) return { signature, attestationKey, ...readQeCertification(r) };
  const type = r.u16le("certification data type");
  if (type !== CERTIFICATION.qeReport) throw unsupported(`certification data type ${type}`);
  const length = r.u32le("certification data length");
  const wrapped = r.bounded("certification data", length, MAX_QUOTE_BYTES);
  r.end();
  const inner = new ByteReader(wrapped, "QE report certification data");
  return { signature, attestationKey, ...readQeCertification(inner) };
}

/** The part v3 and later versions share; it ends its structure. */
function readQeCertification(
  r: ByteReader,
): Omit<QuoteSignatureData, "signature" | "attestationKey"> {
  const qeReport = r.bytes("QE report", SGX_REPORT_BODY_BYTES);
  const qeReportSignature = r.bytes("QE report signature", 64);
  const qeAuthData = r.bytes("QE authentication data", r.u16le("QE authentication data length"));
  const type = r.u16le("certification data type");
  const length = r.u32le("certification data length");
  const bytes = r.bounded("certification data", length, MAX_QUOTE_BYTES);
  r.end();
  return { qeReport, qeReportSignature, qeAuthData, certification: { type, bytes } };
}

/** The 48-byte header and TD 1.0 body of a v4 TDX quote: what the attestation key signs. */
export function encodeTdxSignedBytesV4(
  header: { qeSvn: number; pceSvn: number; userData: Uint8Array },
  body: TdReportBody,
): Uint8Array {
  if (header.userData.length !== 20 || body.tdx15) {
    throw new TypeError("A v4 quote has 20 bytes of user data and a TD 1.0 body");
  }
  const signed = new ByteWriter()
    .u16le(4).u16le(ECDSA_P256).u32le(TEE_TDX)
    .u16le(header.qeSvn).u16le(header.pceSvn)
    .bytes(INTEL_QE_VENDOR_ID).bytes(header.userData)
    .bytes(encodeTdReportBody(body))
    .finish();
  if (signed.length !== HEADER_BYTES + TD_REPORT_10_BYTES) {
    throw new TypeError("A TD report member has the wrong length");
  }
  return signed;
}

/** A whole v4 quote from its signed part and the signature section, without padding. */
export function encodeQuoteV4(signedBytes: Uint8Array, data: QuoteSignatureData): Uint8Array {
  const certification = new ByteWriter()
    .bytes(data.qeReport).bytes(data.qeReportSignature)
    .u16le(data.qeAuthData.length).bytes(data.qeAuthData)
    .u16le(data.certification.type)
    .u32le(data.certification.bytes.length).bytes(data.certification.bytes)
    .finish();
  const section = new ByteWriter()
    .bytes(data.signature).bytes(data.attestationKey)
    .u16le(CERTIFICATION.qeReport).u32le(certification.length).bytes(certification)
    .finish();
  return new ByteWriter().bytes(signedBytes).u32le(section.length).bytes(section).finish();
}

function unsupported(what: string): AppError {
  return new AppError("input/unsupported", `Cannot parse quote: unsupported ${what}`);
}
