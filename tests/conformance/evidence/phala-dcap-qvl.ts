import { Buffer } from "node:buffer";
import { createRequire } from "node:module";
import { decodeOnePem } from "#core/encoding/pem.ts";
import { DEFAULT_POLICY } from "#core/attestation/policy.ts";
import type { Answer, ConformanceCase } from "./case.ts";

/** The part of @phala/dcap-qvl that is judged. */
interface DcapQvl {
  readonly QuoteVerifier: {
    newWithRootCa(der: Buffer): {
      verify(
        quote: Uint8Array,
        collateral: unknown,
        nowSeconds: number,
      ): { readonly status: string };
    };
  };
}

const require = createRequire(import.meta.url);
export const { version } = require("@phala/dcap-qvl/package.json") as { version: string };
const { QuoteVerifier } = require("@phala/dcap-qvl") as DcapQvl;

/** What @phala/dcap-qvl says; which TCB statuses pass is left to its caller, so the adapter decides it. */
export function phalaAnswer({ id, request, root }: ConformanceCase): Answer {
  const now = Date.parse(request.time) / 1000;
  const { allowed_tcb_statuses: allowed = DEFAULT_POLICY.allowedTcbStatuses } = request.policy as {
    allowed_tcb_statuses?: readonly string[];
  };
  let status: string;
  try {
    const verifier = QuoteVerifier.newWithRootCa(Buffer.from(decodeOnePem("CERTIFICATE", root)));
    ({ status } = verifier.verify(Buffer.from(request.quote!, "hex"), request.collateral, now));
  } catch (error) {
    return { id, outcome: "refused", reason: error instanceof Error ? error.message : "?" };
  }
  return allowed.includes(status)
    ? { id, outcome: "accepted", status }
    : { id, outcome: "refused", reason: `status ${status}` };
}
