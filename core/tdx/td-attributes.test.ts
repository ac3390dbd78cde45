import assert from "node:assert/strict";
import { test } from "node:test";
import { type ReasonCode, reasonOf } from "../errors/refusal.ts";
import { requireNoDebug, requireSgxAttributes, requireTdAttributes } from "./td-attributes.ts";
import type { SgxReportBody } from "./sgx-report-body.ts";
import type { TdReportBody } from "./td-report-body.ts";

const SEPT_VE_DISABLE = 28;

function td(bits: readonly number[], changes: Partial<TdReportBody> = {}): TdReportBody {
  const tdAttributes = new Uint8Array(8);
  for (const bit of bits) tdAttributes[bit >> 3]! |= 1 << (bit & 7);
  const zero = new Uint8Array(48);
  return {
    teeTcbSvn: new Uint8Array(16),
    mrSeam: zero,
    mrSignerSeam: zero,
    seamAttributes: new Uint8Array(8),
    tdAttributes,
    xfam: new Uint8Array(8),
    mrTd: zero,
    mrConfigId: zero,
    mrOwner: zero,
    mrOwnerConfig: zero,
    rtmrs: [zero, zero, zero, zero],
    reportData: new Uint8Array(64),
    ...changes,
  };
}
const codeOf = (run: () => void): ReasonCode | undefined => {
  try {
    run();
    return undefined;
  } catch (error) {
    return reasonOf(error)?.code;
  }
};

test("a production TD passes, with protection keys and key locker or without", () => {
  for (const bits of [[28], [28, 30], [28, 31], [28, 30, 31]]) {
    assert.equal(codeOf(() => requireTdAttributes(td(bits))), undefined);
  }
});

test("every other attribute bit is refused, and a missing SEPT_VE_DISABLE", () => {
  for (let bit = 1; bit < 64; bit++) {
    if ([SEPT_VE_DISABLE, 30, 31].includes(bit)) continue;
    const attributes = td([SEPT_VE_DISABLE, bit]);
    assert.equal(codeOf(() => requireTdAttributes(attributes)), "attributes-not-allowed", `${bit}`);
  }
  assert.equal(codeOf(() => requireTdAttributes(td([]))), "attributes-not-allowed");
});

test("the debug bit has a reason of its own", () => {
  assert.equal(codeOf(() => requireNoDebug(td([SEPT_VE_DISABLE, 0]))), "debug-enabled");
  assert.equal(codeOf(() => requireNoDebug(td([SEPT_VE_DISABLE]))), undefined);
});

test("a TDX module with a signer and a service TD are refused", () => {
  const one = new Uint8Array(48).fill(1);
  const signed = td([SEPT_VE_DISABLE], { mrSignerSeam: one });
  assert.equal(codeOf(() => requireTdAttributes(signed)), "attributes-not-allowed");
  const tdx15 = { teeTcbSvn2: new Uint8Array(16), mrServiceTd: one };
  const serviced = td([SEPT_VE_DISABLE], { tdx15 });
  assert.equal(codeOf(() => requireTdAttributes(serviced)), "attributes-not-allowed");
});

test("an enclave may have the attributes Intel defines, and no reserved one", () => {
  const enclave = (bits: readonly number[]) => {
    const attributes = new Uint8Array(16);
    for (const bit of bits) attributes[bit >> 3]! |= 1 << (bit & 7);
    return { attributes } as SgxReportBody;
  };
  // INIT, MODE64BIT, PROVISIONKEY, EINITTOKENKEY, CET, KSS, AEXNOTIFY
  const defined = [0, 2, 4, 5, 6, 7, 10];
  assert.equal(codeOf(() => requireSgxAttributes(enclave(defined))), undefined);
  for (const bit of [3, 8, 9, 11, 31, 63]) {
    assert.equal(codeOf(() => requireSgxAttributes(enclave([0, bit]))), "attributes-not-allowed");
  }
});
