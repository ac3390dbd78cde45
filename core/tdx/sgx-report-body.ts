import { ByteReader } from "../bytes/byte-reader.ts";
import { ByteWriter } from "../bytes/byte-writer.ts";

/** Bytes of an SGX report body (Intel SGX DCAP quote library reference, A.4). */
export const SGX_REPORT_BODY_BYTES = 384;

/**
 * An enclave's report: the body of an SGX quote, and the quoting enclave's own report inside every
 * quote. The reserved runs are kept, because a signature covers them.
 */
export interface SgxReportBody {
  readonly cpuSvn: Uint8Array;
  readonly miscSelect: number;
  readonly reserved1: Uint8Array;
  readonly attributes: Uint8Array;
  readonly mrEnclave: Uint8Array;
  readonly reserved2: Uint8Array;
  readonly mrSigner: Uint8Array;
  readonly reserved3: Uint8Array;
  readonly isvProdId: number;
  readonly isvSvn: number;
  readonly reserved4: Uint8Array;
  readonly reportData: Uint8Array;
}

export function readSgxReportBody(r: ByteReader): SgxReportBody {
  return {
    cpuSvn: r.bytes("CPUSVN", 16),
    miscSelect: r.u32le("MISCSELECT"),
    reserved1: r.bytes("reserved", 28),
    attributes: r.bytes("ATTRIBUTES", 16),
    mrEnclave: r.bytes("MRENCLAVE", 32),
    reserved2: r.bytes("reserved", 32),
    mrSigner: r.bytes("MRSIGNER", 32),
    reserved3: r.bytes("reserved", 96),
    isvProdId: r.u16le("ISVPRODID"),
    isvSvn: r.u16le("ISVSVN"),
    reserved4: r.bytes("reserved", 60),
    reportData: r.bytes("REPORTDATA", 64),
  };
}

export function parseSgxReportBody(bytes: Uint8Array): SgxReportBody {
  const r = new ByteReader(bytes, "SGX report body");
  const report = readSgxReportBody(r);
  r.end();
  return report;
}

export function encodeSgxReportBody(report: SgxReportBody): Uint8Array {
  return new ByteWriter()
    .bytes(report.cpuSvn).u32le(report.miscSelect).bytes(report.reserved1)
    .bytes(report.attributes).bytes(report.mrEnclave).bytes(report.reserved2)
    .bytes(report.mrSigner).bytes(report.reserved3)
    .u16le(report.isvProdId).u16le(report.isvSvn)
    .bytes(report.reserved4).bytes(report.reportData)
    .finish();
}
