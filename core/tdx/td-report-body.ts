import type { ByteReader } from "../bytes/byte-reader.ts";
import { ByteWriter } from "../bytes/byte-writer.ts";

/** Bytes of a TD report body, TDX 1.0 (Intel TDX DCAP quote library reference, A.3.2). */
export const TD_REPORT_10_BYTES = 584;
/** Bytes of a TD report body, TDX 1.5: the 1.0 body, TEE_TCB_SVN_2 and MRSERVICETD. */
export const TD_REPORT_15_BYTES = 648;

/** What the TDX module says about a TD inside a quote; not the 1024-byte TDREPORT of the guest. */
export interface TdReportBody {
  readonly teeTcbSvn: Uint8Array;
  readonly mrSeam: Uint8Array;
  readonly mrSignerSeam: Uint8Array;
  readonly seamAttributes: Uint8Array;
  readonly tdAttributes: Uint8Array;
  readonly xfam: Uint8Array;
  readonly mrTd: Uint8Array;
  readonly mrConfigId: Uint8Array;
  readonly mrOwner: Uint8Array;
  readonly mrOwnerConfig: Uint8Array;
  /** RTMR0 to RTMR3, 48 bytes each. */
  readonly rtmrs: readonly [Uint8Array, Uint8Array, Uint8Array, Uint8Array];
  readonly reportData: Uint8Array;
  /** The members TDX 1.5 appends; absent in a 1.0 body. */
  readonly tdx15?: { readonly teeTcbSvn2: Uint8Array; readonly mrServiceTd: Uint8Array };
}

export function readTdReportBody(r: ByteReader, version: "td10" | "td15"): TdReportBody {
  const body: TdReportBody = {
    teeTcbSvn: r.bytes("TEE_TCB_SVN", 16),
    mrSeam: r.bytes("MRSEAM", 48),
    mrSignerSeam: r.bytes("MRSIGNERSEAM", 48),
    seamAttributes: r.bytes("SEAMATTRIBUTES", 8),
    tdAttributes: r.bytes("TDATTRIBUTES", 8),
    xfam: r.bytes("XFAM", 8),
    mrTd: r.bytes("MRTD", 48),
    mrConfigId: r.bytes("MRCONFIGID", 48),
    mrOwner: r.bytes("MROWNER", 48),
    mrOwnerConfig: r.bytes("MROWNERCONFIG", 48),
    rtmrs: [r.bytes("RTMR0", 48), r.bytes("RTMR1", 48), r.bytes("RTMR2", 48), r.bytes("RTMR3", 48)],
    reportData: r.bytes("REPORTDATA", 64),
  };
  if (version === "td10") return body;
  return {
    ...body,
    tdx15: { teeTcbSvn2: r.bytes("TEE_TCB_SVN_2", 16), mrServiceTd: r.bytes("MRSERVICETD", 48) },
  };
}

export function encodeTdReportBody(body: TdReportBody): Uint8Array {
  const w = new ByteWriter()
    .bytes(body.teeTcbSvn).bytes(body.mrSeam).bytes(body.mrSignerSeam)
    .bytes(body.seamAttributes).bytes(body.tdAttributes).bytes(body.xfam)
    .bytes(body.mrTd).bytes(body.mrConfigId).bytes(body.mrOwner).bytes(body.mrOwnerConfig);
  for (const rtmr of body.rtmrs) w.bytes(rtmr);
  w.bytes(body.reportData);
  if (body.tdx15) w.bytes(body.tdx15.teeTcbSvn2).bytes(body.tdx15.mrServiceTd);
  return w.finish();
}
