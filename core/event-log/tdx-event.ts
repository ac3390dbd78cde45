import { fromHex, toHex } from "../bytes/bytes.ts";
import { AppError } from "../errors/app-error.ts";
import {
  RUNTIME_EVENT_IMR,
  RUNTIME_EVENT_TYPE,
  type RuntimeEvent,
  runtimeEventDigest,
  runtimeEventPreimage,
  type RuntimeEventVersion,
} from "./runtime-event.ts";

/** The most events a log may hold, and the most bytes of its JSON text. */
export const MAX_EVENTS = 65536;
export const MAX_EVENT_LOG_TEXT = 16 * 1024 * 1024;

/** One line of a TDX event log: a boot event from the CCEL, or a runtime event of RTMR3. */
export interface TdxEvent {
  /** Which RTMR it extended, 0 to 3. */
  readonly imr: number;
  readonly eventType: number;
  /** SHA-384; empty in stripped runtime events. Ignored for runtime events: see `effectiveDigest`. */
  readonly digest: Uint8Array;
  /** Name; empty for boot events but for the three ACPI ones. */
  readonly event: string;
  readonly payload: Uint8Array;
  readonly version: RuntimeEventVersion;
  /** Lower-case hex of a version 2 digest's preimage. */
  readonly preimage?: string;
}

export function isRuntimeEvent(event: TdxEvent): boolean {
  return event.eventType === RUNTIME_EVENT_TYPE;
}

/**
 * What a replay extends: recomputed from name and payload for runtime events, whatever the log says;
 * the stored digest for the others, whose payload nothing authenticates.
 */
export function effectiveDigest(event: TdxEvent): Uint8Array {
  return isRuntimeEvent(event) ? runtimeEventDigest(event) : event.digest;
}

export function toTdxEvent(event: RuntimeEvent): TdxEvent {
  return {
    imr: RUNTIME_EVENT_IMR,
    eventType: RUNTIME_EVENT_TYPE,
    digest: runtimeEventDigest(event),
    event: event.event,
    payload: event.payload,
    version: event.version,
  };
}

/** Every runtime event of a log, in order, whatever register it claims (spec attestation.md 6.2). */
export function runtimeEventsOf(log: readonly TdxEvent[]): RuntimeEvent[] {
  return log.filter(isRuntimeEvent)
    .map(({ event, payload, version }) => ({ event, payload, version }));
}

/** The JSON shape of one event (spec attestation.md 2.3). */
export interface TdxEventJson {
  imr: number;
  event_type: number;
  digest: string;
  event: string;
  event_payload: string;
  version?: number;
  preimage?: string;
}

export function tdxEventToJson(event: TdxEvent): TdxEventJson {
  return {
    imr: event.imr,
    event_type: event.eventType,
    digest: toHex(event.digest),
    event: event.event,
    event_payload: toHex(event.payload),
    ...(event.version === 1 ? {} : { version: event.version }),
    ...(event.preimage === undefined ? {} : { preimage: event.preimage }),
  };
}

/** Reads one event's JSON object. Unknown members are ignored: newer guests add some. */
export function tdxEventFromJson(value: unknown): TdxEvent {
  const json = value as Partial<TdxEventJson> | null;
  if (typeof json !== "object" || json === null || Array.isArray(json)) {
    throw malformed("an event is not an object");
  }
  const { imr, event_type, digest = "", event, event_payload, version = 1, preimage } = json;
  if (!isU32(imr)) throw malformed("imr is not a 32-bit number");
  if (!isU32(event_type)) throw malformed("event_type is not a 32-bit number");
  if (typeof event !== "string") throw malformed("event is not a string");
  if (typeof digest !== "string" || typeof event_payload !== "string") {
    throw malformed("digest or event_payload is not a string");
  }
  if (version !== 1 && version !== 2) throw malformed("version is not 1 or 2");
  if (preimage !== undefined && preimage !== null && typeof preimage !== "string") {
    throw malformed("preimage is not a string");
  }
  return {
    imr,
    eventType: event_type,
    digest: fromHex(digest, "event digest"),
    event,
    payload: fromHex(event_payload, "event_payload"),
    version,
    ...(typeof preimage === "string" ? { preimage } : {}),
  };
}

/** Parses the `event_log` string of a GetQuote answer: a JSON array of events. */
export function parseEventLogJson(text: string): TdxEvent[] {
  if (text.length > MAX_EVENT_LOG_TEXT) {
    throw new AppError("input/too-large", "Cannot parse event log: more than 16 MiB of text");
  }
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch (cause) {
    throw malformed("not JSON", cause);
  }
  if (!Array.isArray(value)) throw malformed("not an array");
  if (value.length > MAX_EVENTS) throw malformed(`more than ${MAX_EVENTS} events`);
  return value.map(tdxEventFromJson);
}

export function encodeEventLogJson(log: readonly TdxEvent[]): string {
  return JSON.stringify(log.map(tdxEventToJson));
}

/**
 * The log as GetQuote gives it: payloads of boot events are dropped but for the ACPI markers, digests
 * of runtime events are dropped because a verifier recomputes them, and version 2 preimages filled.
 */
export function eventLogForQuote(log: readonly TdxEvent[]): TdxEvent[] {
  return log.map((event) => {
    if (isRuntimeEvent(event)) return withPreimage(stripEvent(event));
    return isAcpiDataEvent(event) ? event : stripEvent(event);
  });
}

/** The log as certificates and stored attestations carry it: ACPI markers of RTMR0, and RTMR3. */
export function eventLogForCertificate(log: readonly TdxEvent[]): TdxEvent[] {
  return log.filter((event) => event.imr === RUNTIME_EVENT_IMR || isAcpiDataEvent(event))
    .map((event) => isAcpiDataEvent(event) ? event : stripEvent(event));
}

/** Runtime event: digest emptied, payload kept. Any other: payload emptied, digest kept. */
export function stripEvent(event: TdxEvent): TdxEvent {
  const none = new Uint8Array(0);
  return isRuntimeEvent(event) ? { ...event, digest: none } : { ...event, payload: none };
}

/** Fills the preimage of a version 2 runtime event; other events stay as they are. */
export function withPreimage(event: TdxEvent): TdxEvent {
  if (!isRuntimeEvent(event) || event.version !== 2) return event;
  return { ...event, preimage: toHex(runtimeEventPreimage(event)) };
}

const ACPI_DATA = "414350492044415441"; // ASCII "ACPI DATA"
const ACPI_EVENT_TYPE = 10; // EV_PLATFORM_CONFIG_FLAGS
export const ACPI_LABELS = ["acpi-loader", "acpi-rsdp", "acpi-tables"] as const;

/** OVMF measures each ACPI blob into RTMR0 with this marker as the event's payload. */
export function isAcpiDataEvent(event: TdxEvent): boolean {
  return event.imr === 0 && event.eventType === ACPI_EVENT_TYPE &&
    toHex(event.payload) === ACPI_DATA;
}

/** Names the first three ACPI markers of RTMR0 in the order OVMF measures them; others stay unnamed. */
export function labelAcpiEvents(log: readonly TdxEvent[]): TdxEvent[] {
  let seen = 0;
  return log.map((event) => {
    if (!isAcpiDataEvent(event)) return event;
    const label = ACPI_LABELS[seen++];
    return label === undefined ? event : { ...event, event: label };
  });
}

/** SHA-384 digests of the three ACPI blobs, as RTMR0 was extended with them. */
export interface AcpiDigests {
  readonly loader: Uint8Array;
  readonly rsdp: Uint8Array;
  readonly tables: Uint8Array;
}

/**
 * The ACPI digests of a log, chosen by label and never by position. Exactly three markers, one per
 * label, 48 bytes each (spec attestation.md 6.2); anything else throws `input/malformed`.
 */
export function acpiDigestsOf(log: readonly TdxEvent[]): AcpiDigests {
  const markers = log.filter(isAcpiDataEvent);
  if (markers.length !== 3) throw malformed(`${markers.length} ACPI DATA events, expected 3`);
  const digest = (label: string) => {
    const matches = markers.filter((event) => event.event === label);
    if (matches.length !== 1) throw malformed(`${matches.length} ${label} events, expected 1`);
    if (matches[0]!.digest.length !== 48) throw malformed(`the ${label} digest is not 48 bytes`);
    return matches[0]!.digest;
  };
  return {
    loader: digest("acpi-loader"),
    rsdp: digest("acpi-rsdp"),
    tables: digest("acpi-tables"),
  };
}

function isU32(value: unknown): value is number {
  return typeof value === "number" && Number.isInteger(value) && value >= 0 && value <= 0xffffffff;
}

function malformed(why: string, cause?: unknown): AppError {
  return new AppError("input/malformed", `Cannot parse event log: ${why}`, { cause });
}
