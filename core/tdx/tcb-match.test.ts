import assert from "node:assert/strict";
import { test } from "node:test";
import { parserProperty } from "../../tests/parser-property.ts";
import { vectorTest, vectorText } from "../../tests/vectors.ts";
import { fromUtf8, toHex, utf8 } from "../bytes/bytes.ts";
import { type ReasonCode, reasonOf } from "../errors/refusal.ts";
import { parseCollateralJson } from "./collateral.ts";
import type { VerifiedCollateral, VerifiedQuote } from "./dcap-verify.ts";
import { parseQeIdentity, type QeIdentity } from "./qe-identity.ts";
import type { SgxReportBody } from "./sgx-report-body.ts";
import { parseTcbInfo, type TcbInfo } from "./tcb-info.ts";
import { matchTcb } from "./tcb-match.ts";
import type { TcbStatus } from "./tcb-status.ts";
import type { TdReportBody } from "./td-report-body.ts";

const FMSPC = "B0C06F000000";
const components = (...svns: number[]) =>
  Array.from({ length: 16 }, (_, i) => ({ svn: svns[i] ?? 0 }));
const level = (tcb: unknown, tcbStatus: TcbStatus, ...advisoryIDs: string[]) => ({
  tcb,
  tcbDate: "2025-01-01T00:00:00Z",
  tcbStatus,
  advisoryIDs,
});
const platformLevel = (
  svn: number,
  pcesvn: number,
  tdx: number,
  status: TcbStatus,
  ...ids: string[]
) =>
  level(
    {
      sgxtcbcomponents: components(svn),
      pcesvn,
      tdxtcbcomponents: components(tdx),
    },
    status,
    ...ids,
  );

/** TCB info as PCS API v4 words it; `changes` replaces members. */
function tcbInfo(changes: Record<string, unknown> = {}): TcbInfo {
  return parseTcbInfo(JSON.stringify({
    id: "TDX",
    version: 3,
    issueDate: "2026-01-01T00:00:00Z",
    nextUpdate: "2026-02-01T00:00:00Z",
    fmspc: FMSPC,
    pceId: "0000",
    tcbType: 0,
    tcbEvaluationDataNumber: 18,
    tdxModule: {
      mrsigner: "00".repeat(48),
      attributes: "00".repeat(8),
      attributesMask: "FF".repeat(8),
    },
    tcbLevels: [platformLevel(2, 11, 3, "UpToDate")],
    ...changes,
  }));
}

function qeIdentity(changes: Record<string, unknown> = {}): QeIdentity {
  return parseQeIdentity(JSON.stringify({
    id: "TD_QE",
    version: 2,
    issueDate: "2026-01-01T00:00:00Z",
    nextUpdate: "2026-02-01T00:00:00Z",
    tcbEvaluationDataNumber: 18,
    miscselect: "00000000",
    miscselectMask: "FFFFFFFF",
    attributes: "11000000000000000000000000000000",
    attributesMask: "FBFFFFFFFFFFFFFF0000000000000000",
    mrsigner: "44".repeat(32),
    isvprodid: 2,
    tcbLevels: [level({ isvsvn: 4 }, "UpToDate")],
    ...changes,
  }));
}

interface Platform {
  readonly tee?: "tdx" | "sgx";
  readonly cpuSvn?: number;
  readonly pceSvn?: number;
  readonly pceId?: Uint8Array;
  readonly td?: Partial<TdReportBody>;
  readonly qe?: Partial<SgxReportBody>;
  readonly tcbInfo?: TcbInfo;
  readonly qeIdentity?: QeIdentity;
}

const first = (length: number, ...bytes: number[]) => {
  const whole = new Uint8Array(length);
  whole.set(bytes);
  return whole;
};

/** A platform that reaches every level above exactly; each test changes one thing. */
function match(platform: Platform = {}) {
  const verified = {
    quote: {
      header: { tee: platform.tee ?? "tdx" },
      body: platform.tee === "sgx" ? { kind: "sgx" } : {
        kind: "td10",
        report: {
          teeTcbSvn: first(16, 3),
          mrSignerSeam: new Uint8Array(48),
          seamAttributes: new Uint8Array(8),
          ...platform.td,
        },
      },
    },
    platform: {
      cpuSvn: first(16, platform.cpuSvn ?? 2),
      pceSvn: platform.pceSvn ?? 11,
      pceId: platform.pceId ?? new Uint8Array(2),
      fmspc: first(6, 0xb0, 0xc0, 0x6f),
    },
    qeReport: {
      mrSigner: new Uint8Array(32).fill(0x44),
      attributes: first(16, 0x11),
      miscSelect: 0,
      isvProdId: 2,
      isvSvn: 4,
      ...platform.qe,
    },
  } as unknown as VerifiedQuote;
  return matchTcb(
    verified,
    {
      tcbInfo: platform.tcbInfo ?? tcbInfo(),
      qeIdentity: platform.qeIdentity ?? qeIdentity(),
    } as VerifiedCollateral,
  );
}

const outcome = (platform: Platform): TcbStatus | ReasonCode => {
  try {
    return match(platform).status;
  } catch (error) {
    const reason = reasonOf(error);
    assert.ok(reason, String(error));
    return reason.code;
  }
};

const cases: readonly (readonly [string, TcbStatus | ReasonCode, () => Platform])[] = [
  ["everything as Intel lists it", "UpToDate", () => ({})],
  ["a component below the only level", "tcb-level-not-found", () => ({ cpuSvn: 1 })],
  ["a PCE below the only level", "tcb-level-not-found", () => ({ pceSvn: 10 })],
  ["a TDX component below", "tcb-level-not-found", () => ({ td: { teeTcbSvn: first(16, 2) } })],
  ["the last TDX component below", "tcb-level-not-found", () => ({
    tcbInfo: tcbInfo({
      tcbLevels: [level({
        sgxtcbcomponents: components(),
        pcesvn: 0,
        tdxtcbcomponents: [...components().slice(1), { svn: 1 }],
      }, "UpToDate")],
    }),
  })],
  ["levels listed worst first", "UpToDate", () => ({
    tcbInfo: tcbInfo({
      tcbLevels: [
        platformLevel(1, 5, 1, "OutOfDate"),
        platformLevel(2, 11, 3, "UpToDate"),
      ],
    }),
  })],
  ["a platform that only reaches the lower level", "OutOfDate", () => ({
    cpuSvn: 1,
    tcbInfo: tcbInfo({
      tcbLevels: [
        platformLevel(2, 11, 3, "UpToDate"),
        platformLevel(1, 5, 1, "OutOfDate"),
      ],
    }),
  })],
  ["a revoked level", "tcb-revoked", () => ({
    tcbInfo: tcbInfo({ tcbLevels: [platformLevel(0, 0, 0, "Revoked")] }),
  })],
  ["another FMSPC", "platform-mismatch", () => ({ tcbInfo: tcbInfo({ fmspc: "00A067110000" }) })],
  ["another PCEID", "platform-mismatch", () => ({ pceId: first(2, 1) })],
  ["TCB info of SGX for a TD", "platform-mismatch", () => ({ tcbInfo: tcbInfo({ id: "SGX" }) })],
  ["the SGX quoting enclave for a TD", "platform-mismatch", () => ({
    qeIdentity: qeIdentity({ id: "QE" }),
  })],
  ["TCB info of TDX for an enclave", "platform-mismatch", () => ({ tee: "sgx" })],

  ["another signer of the quoting enclave", "quoting-enclave-identity-mismatch", () => ({
    qe: { mrSigner: new Uint8Array(32) },
  })],
  ["another quoting enclave of that signer", "quoting-enclave-identity-mismatch", () => ({
    qe: { isvProdId: 1 },
  })],
  ["a MISCSELECT bit under the mask", "quoting-enclave-identity-mismatch", () => ({
    qe: { miscSelect: 0x80000000 },
  })],
  ["an attribute under the mask", "quoting-enclave-identity-mismatch", () => ({
    qe: { attributes: first(16, 0x91) },
  })],
  ["an attribute the mask leaves out", "UpToDate", () => ({
    qe: { attributes: first(16, 0x15) },
  })],
  ["a quoting enclave in debug mode", "debug-enabled", () => ({
    qe: { attributes: first(16, 0x13) },
  })],
  ["a quoting enclave older than any level", "tcb-level-not-found", () => ({ qe: { isvSvn: 3 } })],
  ["a quoting enclave that is out of date", "OutOfDate", () => ({
    qe: { isvSvn: 3 },
    qeIdentity: qeIdentity({
      tcbLevels: [level({ isvsvn: 4 }, "UpToDate"), level({ isvsvn: 1 }, "OutOfDate")],
    }),
  })],
  ["a revoked quoting enclave", "tcb-revoked", () => ({
    qeIdentity: qeIdentity({ tcbLevels: [level({ isvsvn: 1 }, "Revoked")] }),
  })],

  ["no description of a TDX module", "tdx-module-mismatch", () => ({
    tcbInfo: tcbInfo({ tdxModule: undefined }),
  })],
  ["another signer of the TDX module", "tdx-module-mismatch", () => ({
    td: { mrSignerSeam: first(48, 1) },
  })],
  ["a SEAM attribute under the mask", "tdx-module-mismatch", () => ({
    td: { seamAttributes: first(8, 1) },
  })],
  ["a SEAM attribute outside the mask", "tdx-module-mismatch", () => ({
    td: { seamAttributes: first(8, 1) },
    tcbInfo: tcbInfo({
      tdxModule: {
        mrsigner: "00".repeat(48),
        attributes: "00".repeat(8),
        attributesMask: "00".repeat(8),
      },
    }),
  })],
];
for (const [what, expected, platform] of cases) {
  test(`TCB of a platform with ${what}: ${expected}`, () => {
    assert.equal(outcome(platform()), expected);
  });
}

const identities = (id: string, ...levels: unknown[]) =>
  tcbInfo({
    tcbLevels: [platformLevel(2, 11, 0, "UpToDate", "INTEL-SA-1")],
    tdxModuleIdentities: [{
      id,
      mrsigner: "00".repeat(48),
      attributes: "00".repeat(8),
      attributesMask: "FF".repeat(8),
      tcbLevels: levels,
    }],
  });
const upToDate3 = level({ isvsvn: 3 }, "UpToDate");
const module = (isvSvn: number, version: number): Partial<TdReportBody> => ({
  teeTcbSvn: first(16, isvSvn, version),
});

test("the TDX module is the one of its major version, whatever the case of its id", () => {
  for (const id of ["TDX_0A", "tdx_0a", "TDX_0a"]) {
    const found = outcome({ td: module(3, 10), tcbInfo: identities(id, upToDate3) });
    assert.equal(found, "UpToDate", id);
  }
  const other = { td: module(3, 1), tcbInfo: identities("TDX_03", upToDate3) };
  assert.equal(outcome(other), "tdx-module-mismatch");
});

test("version 0 of the TDX module and TCB info without identities use the one description", () => {
  assert.equal(outcome({ td: module(0, 0), tcbInfo: identities("TDX_01") }), "UpToDate");
  const none = tcbInfo({ tcbLevels: [platformLevel(0, 0, 0, "UpToDate")] });
  assert.equal(outcome({ td: module(3, 7), tcbInfo: none }), "UpToDate");
});

test("a TDX module older than any level is refused, an older one counts", () => {
  const both = identities("TDX_01", upToDate3, level({ isvsvn: 2 }, "OutOfDate", "INTEL-SA-2"));
  assert.equal(outcome({ td: module(1, 1), tcbInfo: both }), "tcb-level-not-found");
  const old = match({ td: module(2, 1), tcbInfo: both });
  assert.equal(old.status, "OutOfDate");
  assert.equal(old.platform.status, "OutOfDate");
  assert.equal(old.quotingEnclave.status, "UpToDate");
});

test("the worst of platform, TDX module and quoting enclave counts, advisories add up", () => {
  const merged = match({
    td: module(3, 1),
    tcbInfo: identities("TDX_01", level({ isvsvn: 3 }, "ConfigurationNeeded", "A", "INTEL-SA-1")),
    qeIdentity: qeIdentity({ tcbLevels: [level({ isvsvn: 4 }, "SWHardeningNeeded", "B", "A")] }),
  });
  assert.equal(merged.status, "ConfigurationNeeded");
  assert.deepEqual(merged.advisoryIds, ["INTEL-SA-1", "A", "B"]);
});

for (
  const [what, changes] of [
    ["15 SGX components", {
      tcbLevels: [level({
        sgxtcbcomponents: components().slice(1),
        pcesvn: 0,
        tdxtcbcomponents: components(),
      }, "UpToDate")],
    }],
    ["17 TDX components", {
      tcbLevels: [level({
        sgxtcbcomponents: components(),
        pcesvn: 0,
        tdxtcbcomponents: [...components(), { svn: 0 }],
      }, "UpToDate")],
    }],
    ["an unknown status", { tcbLevels: [platformLevel(0, 0, 0, "Fine" as TcbStatus)] }],
    ["an unknown version", { version: 4 }],
    ["a local time", { issueDate: "2026-01-01T00:00:00+01:00" }],
    ["a day that is none", { nextUpdate: "2026-02-30T00:00:00Z" }],
    ["an FMSPC of 5 bytes", { fmspc: "B0C06F0000" }],
  ] as const
) {
  test(`TCB info with ${what} is malformed`, () => {
    assert.throws(() => tcbInfo(changes), { code: "input/malformed" });
  });
}

vectorTest("the captures' TCB info and QE identity are read by member", () => {
  const collateral = parseCollateralJson(vectorText("intel/tdx_quote_collateral.json"));
  const info = parseTcbInfo(collateral.tcbInfo);
  assert.equal(toHex(info.fmspc), "b0c06f000000");
  assert.equal(info.tdxModuleIdentities[0]!.id, "TDX_03");
  assert.equal(parseQeIdentity(collateral.qeIdentity).isvProdId, 2);
});

parserProperty("parseTcbInfo()", (bytes) => parseTcbInfo(fromUtf8(bytes)), () => {
  const levels = [platformLevel(2, 11, 3, "UpToDate")];
  return utf8(JSON.stringify({
    id: "TDX",
    version: 3,
    issueDate: "2026-01-01T00:00:00Z",
    nextUpdate: "2026-02-01T00:00:00Z",
    fmspc: FMSPC,
    pceId: "0000",
    tcbType: 0,
    tcbEvaluationDataNumber: 18,
    tcbLevels: levels,
  }));
});
parserProperty("parseQeIdentity()", (bytes) => parseQeIdentity(fromUtf8(bytes)));
parserProperty("parseCollateralJson()", (bytes) => parseCollateralJson(bytes));
