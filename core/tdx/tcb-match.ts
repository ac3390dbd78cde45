import { equalBytes, toHex } from "../bytes/bytes.ts";
import { refusal } from "../errors/refusal.ts";
import type { VerifiedCollateral, VerifiedQuote } from "./dcap-verify.ts";
import type { PckPlatform } from "./pck-certificate.ts";
import type { QeIdentity } from "./qe-identity.ts";
import { requireGenuineQe } from "./quoting-enclave.ts";
import type { TcbInfo, TcbLevel, TdxModule } from "./tcb-info.ts";
import { mergeTcb, type TcbStatus, type TcbVerdict } from "./tcb-status.ts";
import type { TdReportBody } from "./td-report-body.ts";

/** Where a platform stands in Intel's assessment. */
export interface TcbMatch {
  /** Platform, TDX module and quoting enclave together. */
  readonly status: TcbStatus;
  readonly advisoryIds: readonly string[];
  /** Platform and TDX module. */
  readonly platform: TcbVerdict;
  readonly quotingEnclave: TcbVerdict;
  /** When the oldest level that counts was assessed, RFC 3339. */
  readonly date: string;
}

/**
 * Matches a verified quote with verified collateral (spec attestation.md 1.4, steps 8 and 10-12):
 * platform, quoting enclave and TDX module must be the ones the collateral is about, and each gets the
 * best level it reaches. Throws `attestation/refused`; a Revoked level is refused, other statuses are
 * for the caller's policy.
 */
export function matchTcb(verified: VerifiedQuote, collateral: VerifiedCollateral): TcbMatch {
  const { quote, platform, qeReport } = verified;
  const { tcbInfo, qeIdentity } = collateral;
  requireSamePlatform(quote.header.tee, platform, tcbInfo, qeIdentity);
  requireGenuineQe(qeReport, qeIdentity);
  const qeLevel = qeIdentity.levels.find(({ isvSvn }) => qeReport.isvSvn >= isvSvn);
  if (!qeLevel) {
    throw refusal("tcb-level-not-found", "The quoting enclave is older than any level Intel lists");
  }
  const td = quote.body.kind === "sgx" ? undefined : quote.body.report;
  const level = tcbInfo.levels.find((one) => reaches(platform, td, one));
  if (!level) {
    throw refusal("tcb-level-not-found", "The platform is older than any TCB level Intel lists");
  }
  const module = td && matchTdxModule(td, tcbInfo);
  const platformTcb = module ? mergeTcb(verdictOf(level), module) : verdictOf(level);
  const quotingEnclave = verdictOf(qeLevel);
  const merged = mergeTcb(platformTcb, quotingEnclave);
  if (merged.status === "Revoked") {
    throw refusal("tcb-revoked", "Intel revoked the platform's TCB level");
  }
  return {
    status: merged.status,
    advisoryIds: merged.advisoryIds,
    platform: platformTcb,
    quotingEnclave,
    date: merged.date,
  };
}

function verdictOf({ status, advisoryIds, date }: TcbVerdict): TcbVerdict {
  return { status, advisoryIds, date };
}

function requireSamePlatform(
  tee: "sgx" | "tdx",
  platform: PckPlatform,
  tcbInfo: TcbInfo,
  qeIdentity: QeIdentity,
): void {
  const [tcbId, qeId] = tee === "tdx" ? ["TDX", "TD_QE"] : ["SGX", "QE"];
  if (tcbInfo.id !== tcbId) throw mismatch(`The TCB info is for ${tcbInfo.id}, not for ${tcbId}`);
  if (qeIdentity.id !== qeId) throw mismatch(`The QE identity is of ${qeIdentity.id}, not ${qeId}`);
  if (!equalBytes(platform.fmspc, tcbInfo.fmspc)) {
    throw mismatch(
      `The TCB info is for FMSPC ${toHex(tcbInfo.fmspc)}, the platform has ${
        toHex(platform.fmspc)
      }`,
    );
  }
  if (!equalBytes(platform.pceId, tcbInfo.pceId)) {
    throw mismatch(
      `The TCB info is for PCEID ${toHex(tcbInfo.pceId)}, the platform has ${
        toHex(platform.pceId)
      }`,
    );
  }
}

function reaches(platform: PckPlatform, td: TdReportBody | undefined, level: TcbLevel): boolean {
  return platform.pceSvn >= level.pceSvn &&
    level.sgxComponents.every((svn, i) => platform.cpuSvn[i]! >= svn) &&
    (td === undefined || level.tdxComponents.every((svn, i) => td.teeTcbSvn[i]! >= svn));
}

/**
 * TEE_TCB_SVN byte 1 is the module's major version: from 1 on, an identity of its own describes it
 * and its byte 0 is compared with that identity's levels.
 */
function matchTdxModule(td: TdReportBody, tcbInfo: TcbInfo): TcbVerdict | undefined {
  if (!tcbInfo.tdxModule) {
    throw refusal("tdx-module-mismatch", "The TCB info describes no TDX module");
  }
  const [svn, version] = td.teeTcbSvn as unknown as [number, number];
  if (version === 0 || tcbInfo.tdxModuleIdentities.length === 0) {
    requireModule(td, tcbInfo.tdxModule);
    return undefined;
  }
  const id = `TDX_${version.toString(16).padStart(2, "0")}`.toUpperCase();
  const identity = tcbInfo.tdxModuleIdentities.find((one) => one.id.toUpperCase() === id);
  if (!identity) {
    throw refusal("tdx-module-mismatch", `Intel's TCB info has no identity of module ${id}`);
  }
  requireModule(td, identity);
  const level = identity.levels.find(({ isvSvn }) => svn >= isvSvn);
  if (!level) {
    throw refusal("tcb-level-not-found", "The TDX module is older than any level Intel lists");
  }
  return verdictOf(level);
}

function requireModule(td: TdReportBody, module: TdxModule): void {
  if (!equalBytes(td.mrSignerSeam, module.mrSigner)) {
    throw refusal("tdx-module-mismatch", "The TDX module has another signer than Intel lists");
  }
  for (const [i, mask] of module.attributesMask.entries()) {
    const actual = td.seamAttributes[i]!;
    if ((actual & mask) !== (module.attributes[i]! & mask) || (actual & ~mask & 0xff) !== 0) {
      throw refusal("tdx-module-mismatch", "The TDX module's attributes are not those Intel lists");
    }
  }
}

function mismatch(detail: string) {
  return refusal("platform-mismatch", detail);
}
