import { isZero } from "../bytes/bytes.ts";
import { refusal } from "../errors/refusal.ts";
import type { SgxReportBody } from "./sgx-report-body.ts";
import type { TdReportBody } from "./td-report-body.ts";

/** Bits of TDATTRIBUTES (Intel TDX module ABI, ATTRIBUTES). */
const DEBUG = 0;
const SEPT_VE_DISABLE = 28;
/** Protection keys and key locker: harmless, and the guest's to use. */
const ALLOWED = [SEPT_VE_DISABLE, 30, 31];

const SGX_DEBUG = 0x02;
/**
 * Bits of SGX ATTRIBUTES.FLAGS (Intel SDM vol. 3D, 36.7.1) an enclave may have: INIT, MODE64BIT, the
 * keys an enclave may derive (4, 5), CET, KSS, AEX-Notify.
 */
const SGX_ALLOWED = [0, 2, 4, 5, 6, 7, 10];
const SGX_FLAG_BITS = 64;

/** Refuses a TD or enclave that its host can debug. Throws `attestation/refused`. */
export function requireNoDebug(report: TdReportBody | SgxReportBody): void {
  const debug = "tdAttributes" in report
    ? hasBit(report.tdAttributes, DEBUG)
    : (report.attributes[0]! & SGX_DEBUG) !== 0;
  if (debug) throw refusal("debug-enabled", "The TEE runs in debug mode: its host can read it");
}

/**
 * Refuses every attribute a production TD must not have: reserved bits, migration, performance
 * monitoring; and one that lets the host inject #VE. Also a TDX module that Intel did not sign as a
 * production module, and a service TD. Throws `attestation/refused`.
 */
export function requireTdAttributes(report: TdReportBody): void {
  const { tdAttributes } = report;
  for (let bit = 0; bit < 64; bit++) {
    if (bit === DEBUG || ALLOWED.includes(bit)) continue;
    if (hasBit(tdAttributes, bit)) throw notAllowed(`TD attribute bit ${bit} is set`);
  }
  if (!hasBit(tdAttributes, SEPT_VE_DISABLE)) {
    throw notAllowed("TD attribute SEPT_VE_DISABLE is not set");
  }
  if (!isZero(report.mrSignerSeam)) throw notAllowed("MRSIGNERSEAM is not zero");
  if (report.tdx15 && !isZero(report.tdx15.mrServiceTd)) {
    throw notAllowed("A service TD is bound to this TD");
  }
}

/** Refuses an enclave with a reserved attribute. Throws `attestation/refused`. */
export function requireSgxAttributes({ attributes }: SgxReportBody): void {
  for (let bit = 0; bit < SGX_FLAG_BITS; bit++) {
    const isKnown = SGX_ALLOWED.includes(bit) || bit === 1; // debug has a check of its own
    if (!isKnown && hasBit(attributes, bit)) throw notAllowed(`SGX attribute bit ${bit} is set`);
  }
}

function hasBit(attributes: Uint8Array, bit: number): boolean {
  return (attributes[bit >> 3]! & (1 << (bit & 7))) !== 0;
}

function notAllowed(detail: string) {
  return refusal("attributes-not-allowed", detail);
}
