import { sha256, sha384 } from "@noble/hashes/sha2.js";
import { concatBytes, toHex, utf8 } from "../bytes/bytes.ts";
import { ByteWriter } from "../bytes/byte-writer.ts";

/** The event type dstack gives to events its guest extends at run time. */
export const RUNTIME_EVENT_TYPE = 0x08000001;
/** The register runtime events extend: RTMR3 on TDX. */
export const RUNTIME_EVENT_IMR = 3;

export type RuntimeEventVersion = 1 | 2;

/**
 * One event of the guest: `event` is its name (any text), `version` says how its digest is made.
 * Events before `system-ready` are the guest's own, later ones belong to the application.
 */
export interface RuntimeEvent {
  readonly event: string;
  readonly payload: Uint8Array;
  readonly version: RuntimeEventVersion;
}

export type HashName = "sha256" | "sha384";

/** The bytes a runtime event's digest is over (spec attestation.md 2.1). */
export function runtimeEventPreimage(event: RuntimeEvent): Uint8Array {
  if (event.version === 2) return utf8(canonicalRuntimeEvent(event));
  const type = new ByteWriter().u32le(RUNTIME_EVENT_TYPE).finish();
  return concatBytes(type, utf8(`:${event.event}:`), event.payload);
}

/** The digest that extends the register: SHA-384 for RTMR3 and AWS PCR14, SHA-256 for GCP PCR14. */
export function runtimeEventDigest(event: RuntimeEvent, hash: HashName = "sha384"): Uint8Array {
  return (hash === "sha384" ? sha384 : sha256)(runtimeEventPreimage(event));
}

/**
 * The RFC 8785 form a version 2 digest is over. The members stand in sorted order, and JSON.stringify
 * escapes strings exactly as RFC 8785 section 3.2.2.2 asks (a lone surrogate cannot come from UTF-8).
 */
export function canonicalRuntimeEvent(event: RuntimeEvent): string {
  return JSON.stringify({
    name: event.event,
    payload: toHex(event.payload),
    type: RUNTIME_EVENT_TYPE,
  });
}
