import { AppError } from "../errors/app-error.ts";
import { encodeTcgLog, parseTcgLog, TCG_SHA384, tcgEvent } from "./tcg-log.ts";
import { labelAcpiEvents, type TdxEvent } from "./tdx-event.ts";

/**
 * Reads the data area of the CCEL ACPI table: the boot events of RTMR0-2, in order, the ACPI ones
 * labelled. Registers are 1-based there (0 is MRTD, whose records are dropped). Exactly one digest a
 * record, SHA-384, and a terminator are required. Throws `input/malformed`.
 */
export function parseCcel(bytes: Uint8Array): TdxEvent[] {
  const log = parseTcgLog(bytes);
  if (!log.terminated) throw malformed("no terminator");
  const events = log.events.filter(({ register }) => register !== 0).map((record): TdxEvent => {
    const [only, ...more] = record.digests;
    if (only === undefined || more.length > 0) {
      throw malformed(`a record has ${record.digests.length} digests, expected 1`);
    }
    if (only.algorithm !== TCG_SHA384) throw malformed(`digest algorithm ${only.algorithm}`);
    if (record.register > 4) throw malformed(`register ${record.register} does not exist`);
    return {
      imr: record.register - 1,
      eventType: record.eventType,
      digest: only.digest,
      event: "",
      payload: record.payload,
      version: 1,
    };
  });
  return labelAcpiEvents(events);
}

/** Writes boot events as firmware would: names are not part of the format, labels get lost. */
export function encodeCcel(events: readonly TdxEvent[]): Uint8Array {
  return encodeTcgLog(
    TCG_SHA384,
    events.map(({ imr, eventType, digest, payload }) =>
      tcgEvent(imr + 1, eventType, TCG_SHA384, digest, payload)
    ),
  );
}

function malformed(why: string): AppError {
  return new AppError("input/malformed", `Cannot parse CCEL: ${why}`);
}
