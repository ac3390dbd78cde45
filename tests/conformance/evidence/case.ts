import type { CollateralJson } from "./scene.ts";

/**
 * One question to a verifier and the answer it must give. As JSON, one line each, so that verifiers in
 * any language can be judged; docs/conformance.md describes the members.
 */
export interface ConformanceCase {
  readonly id: string;
  readonly title: string;
  /**
   * `quote`: any DCAP verifier can answer. `binding` needs report data, `cvm` dstack's event log; `snp` and
   * `nitro` are of other vendors.
   */
  readonly kind: "quote" | "binding" | "cvm" | "snp" | "nitro";
  /** PEM of the root to trust, the only one. */
  readonly root: string;
  /** The body of `POST /v1/verify`. */
  readonly request: CaseRequest;
  readonly expect: Expectation;
}

export interface CaseRequest {
  readonly quote?: string;
  readonly event_log?: string;
  readonly vm_config?: string;
  readonly attestation?: string;
  readonly collateral?: CollateralJson;
  readonly vendor_documents?: Readonly<Record<string, unknown>>;
  readonly time: string;
  readonly report_data?: string;
  readonly reference?: Readonly<Record<string, unknown>>;
  readonly policy: Readonly<Record<string, unknown>>;
}

/** `unreadable`: the verifier cannot even say what the evidence is (exit 2 of the command line). */
export type Expectation =
  | { readonly outcome: "accepted"; readonly status?: string }
  | { readonly outcome: "refused"; readonly reason: string }
  | { readonly outcome: "unreadable" };

/** What a verifier says: one JSON object per case, in any order. */
export interface Answer {
  readonly id: string;
  readonly outcome: "accepted" | "refused" | "unreadable";
  /** The TCB status of what was accepted. */
  readonly status?: string;
  /** A reason code of docs/verdict.md; other verifiers say what they like. */
  readonly reason?: string;
}
