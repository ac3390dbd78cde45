import { fromBase64, toBase64 } from "#core/bytes/bytes.ts";
import { JsonObject } from "#core/encoding/json-object.ts";
import type { RuntimeEvent } from "#core/event-log/runtime-event.ts";

/** One line of runtime_events.log: JSON, payload in base64, version left out when it is 1. */
export function encodeRuntimeEventLine(event: RuntimeEvent): string {
  return JSON.stringify({
    event: event.event,
    payload: toBase64(event.payload),
    ...(event.version === 1 ? {} : { version: event.version }),
  }) + "\n";
}

/** Parses the whole log. Throws `input/malformed`. */
export function parseRuntimeEventLog(text: string): RuntimeEvent[] {
  return text.split("\n").filter((line) => line !== "").map((line) => {
    const o = new JsonObject(JSON.parse(line), "runtime event log");
    const version = o.unsigned("version", 2, 1);
    if (version !== 1 && version !== 2) throw o.malformed("version", "must be 1 or 2");
    return {
      event: o.string("event"),
      payload: fromBase64(o.string("payload"), "runtime event payload"),
      version,
    };
  });
}
