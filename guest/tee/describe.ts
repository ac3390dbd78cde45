import type { Attestation } from "#core/attestation/attestation.ts";
import { encodeAttestation, fitsV0 } from "#core/attestation/versioned-attestation.ts";
import { toBase64, toHex } from "#core/bytes/bytes.ts";
import { AppError } from "#core/errors/app-error.ts";
import { replayEventLog } from "#core/event-log/replay.ts";
import { type TdxEvent, tdxEventToJson } from "#core/event-log/tdx-event.ts";

/** How many events each register has, and what they replay to; for people. */
export function describeReplay(log: readonly TdxEvent[]): string {
  return replayEventLog(log).map((register, imr) => {
    const count = log.filter((event) => event.imr === imr).length;
    return `RTMR${imr}: ${count} events, ${toHex(register)}\n`;
  }).join("");
}

/** The sizes of an attestation's parts, in bytes; for people. */
export function describeSizes(attestation: Attestation): string {
  const { quote, eventLog } = tdxEvidenceOf(attestation);
  const { runtimeEvents, config } = attestation.stack;
  return [
    `version: ${fitsV0(attestation) ? 0 : 1}`,
    `total: ${encodeAttestation(attestation).length} bytes`,
    `quote: ${quote.length} bytes`,
    `event log: ${eventLog.length} events`,
    `runtime events: ${runtimeEvents.length}`,
    `config: ${new TextEncoder().encode(config).length} bytes`,
  ].join("\n") + "\n";
}

/** The whole attestation as JSON; bytes are hex, payloads of runtime events base64 as in their log. */
export function attestationJson(attestation: Attestation): string {
  const { quote, eventLog } = tdxEvidenceOf(attestation);
  const { kind, reportData, runtimeEvents, config } = attestation.stack;
  const json = {
    platform: {
      kind: "tdx",
      data: { quote: toHex(quote), event_log: eventLog.map(tdxEventToJson) },
    },
    stack: {
      kind,
      data: {
        report_data: toHex(reportData),
        runtime_events: runtimeEvents.map(({ event, payload, version }) => ({
          event,
          payload: toBase64(payload),
          ...(version === 2 && { version }),
        })),
        config,
      },
    },
  };
  return JSON.stringify(json, null, 2) + "\n";
}

function tdxEvidenceOf({ platform }: Attestation) {
  if (platform.kind !== "tdx") {
    throw new AppError("input/unsupported", `Evidence of ${platform.kind} is not shown here`);
  }
  return platform;
}
