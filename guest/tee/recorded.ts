import type { Attestation } from "#core/attestation/attestation.ts";
import type { Tee } from "./tee.ts";

/** Where a v4 quote holds its report data (spec/guest-agent.md 3.6). */
const REPORT_DATA_OFFSET = 568;

/**
 * A TEE that plays back one attestation, as the reference's simulator does: each quote is the recorded
 * one with other report data, so its signature no longer holds. For development tools alone.
 */
export function createRecordedTee(recorded: Attestation): Tee {
  const { platform, stack } = recorded;
  if (platform.kind !== "tdx") throw new TypeError("Only TDX recordings are played back");
  return {
    simulated: true,
    quote(reportData) {
      const quote = platform.quote.slice();
      quote.set(reportData, REPORT_DATA_OFFSET);
      return Promise.resolve(quote);
    },
    extend: () => Promise.reject(new TypeError("A recording cannot be extended")),
    runtimeEvents: () => Promise.resolve(stack.runtimeEvents),
    eventLog: () => Promise.resolve(platform.eventLog),
  };
}
