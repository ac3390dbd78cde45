import { equalBytes, toHex } from "../bytes/bytes.ts";
import { refusal } from "../errors/refusal.ts";
import { replayDigests, replayRuntimeEvents } from "../event-log/replay.ts";
import {
  RUNTIME_EVENT_IMR,
  type RuntimeEvent,
  runtimeEventDigest,
  runtimeEventPreimage,
} from "../event-log/runtime-event.ts";
import {
  effectiveDigest,
  isAcpiDataEvent,
  isRuntimeEvent,
  type TdxEvent,
} from "../event-log/tdx-event.ts";
import type { TdReportBody } from "../tdx/td-report-body.ts";

/**
 * Checks the logs against the quote. RTMR3 must replay from all runtime events. The platform's log is
 * often reduced to ACPI markers, which replay to nothing; a register for which it has more must
 * replay. Where the platform's log repeats the runtime events, it must repeat exactly those.
 * Answers the registers that were replayed. Throws `attestation/refused`.
 */
export function requireReplay(
  td: TdReportBody,
  platformLog: readonly TdxEvent[],
  runtimeEvents: readonly RuntimeEvent[],
): readonly number[] {
  if (!equalBytes(replayRuntimeEvents(runtimeEvents), td.rtmrs[RUNTIME_EVENT_IMR])) {
    throw refusal("event-log-mismatch", "The runtime events do not replay to RTMR3");
  }
  const replayed = [0, 1, 2].filter((imr) => {
    const events = platformLog.filter((event) => event.imr === imr);
    return events.some((event) => !isAcpiDataEvent(event));
  });
  for (const imr of replayed) {
    const digests = platformLog.filter((event) => event.imr === imr).map(effectiveDigest);
    if (!equalBytes(replayDigests(digests), td.rtmrs[imr]!)) {
      throw refusal("event-log-mismatch", `The event log does not replay to RTMR${imr}`);
    }
  }
  requireConsistentLogs(platformLog, runtimeEvents);
  return [...replayed, RUNTIME_EVENT_IMR];
}

function requireConsistentLogs(
  platformLog: readonly TdxEvent[],
  runtimeEvents: readonly RuntimeEvent[],
): void {
  for (const event of platformLog) {
    if (event.imr > RUNTIME_EVENT_IMR || isRuntimeEvent(event) !== (event.imr === 3)) {
      throw refusal("event-log-malformed", "An event stands in a register it does not belong to");
    }
    if (isRuntimeEvent(event)) requireOwnDigest(event);
  }
  const logged = platformLog.filter(isRuntimeEvent).map(effectiveDigest).map(toHex);
  const listed = runtimeEvents.map((event) => toHex(runtimeEventDigest(event)));
  if (logged.length > 0 && logged.join() !== listed.join()) {
    throw refusal(
      "event-log-mismatch",
      "The event log and the runtime events tell different boots",
    );
  }
}

/**
 * A digest or preimage stored with a runtime event is redundant, both are recomputed; one that
 * contradicts the event is refused all the same (spec attestation.md 2.3, V2 preimage rule; stripped
 * logs carry no digest, so an absent one passes).
 */
function requireOwnDigest(event: TdxEvent): void {
  const digestDiffers = event.version === 2 && event.digest.length > 0 &&
    !equalBytes(event.digest, runtimeEventDigest(event));
  const preimageDiffers = event.preimage !== undefined &&
    event.preimage !== toHex(runtimeEventPreimage(event));
  if (digestDiffers || preimageDiffers) {
    throw refusal("event-log-mismatch", "A runtime event contradicts its own digest");
  }
}
