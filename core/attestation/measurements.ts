import { toHex } from "../bytes/bytes.ts";
import type { QuoteBody } from "../tdx/quote.ts";

/** A quote's registers and attributes by name, hex, in the order of the report. */
export function registersByName(body: QuoteBody): Readonly<Record<string, string>> {
  if (body.kind === "sgx") {
    const { report } = body;
    return {
      cpu_svn: toHex(report.cpuSvn),
      attributes: toHex(report.attributes),
      mr_enclave: toHex(report.mrEnclave),
      mr_signer: toHex(report.mrSigner),
      isv_prod_id: String(report.isvProdId),
      isv_svn: String(report.isvSvn),
    };
  }
  const { report } = body;
  return {
    tee_tcb_svn: toHex(report.teeTcbSvn),
    mr_seam: toHex(report.mrSeam),
    mr_signer_seam: toHex(report.mrSignerSeam),
    seam_attributes: toHex(report.seamAttributes),
    td_attributes: toHex(report.tdAttributes),
    xfam: toHex(report.xfam),
    mr_td: toHex(report.mrTd),
    mr_config_id: toHex(report.mrConfigId),
    mr_owner: toHex(report.mrOwner),
    mr_owner_config: toHex(report.mrOwnerConfig),
    rtmr0: toHex(report.rtmrs[0]),
    rtmr1: toHex(report.rtmrs[1]),
    rtmr2: toHex(report.rtmrs[2]),
    rtmr3: toHex(report.rtmrs[3]),
    ...(report.tdx15
      ? {
        tee_tcb_svn_2: toHex(report.tdx15.teeTcbSvn2),
        mr_service_td: toHex(report.tdx15.mrServiceTd),
      }
      : {}),
  };
}
