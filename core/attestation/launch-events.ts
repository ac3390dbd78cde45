import { equalBytes, fromUtf8, toHex } from "../bytes/bytes.ts";
import { JsonObject } from "../encoding/json-object.ts";
import { parseStrictJson } from "../encoding/strict-json.ts";
import { refusal } from "../errors/refusal.ts";
import type { RuntimeEvent } from "../event-log/runtime-event.ts";

/** Ends what the guest says before it asks for keys. */
export const BOOT_MR_DONE = "boot-mr-done";
/** Ends what the guest says at all: later events are the application's. */
export const SYSTEM_READY = "system-ready";

export const MAX_INIT_SCRIPTS = 5;
const NONE = new Uint8Array(0);

/** Who the keys come from, as the `key-provider` event names it. */
export interface KeyProviderInfo {
  /** `kms`, `local-sgx`, `tpm` or `none`; other names are passed on as they are. */
  readonly name: string;
  /** Hex; SPKI DER of the KMS root CA, MRENCLAVE of a local provider, else empty. */
  readonly id: string;
}

/** Events of the guest itself, in order: everything before `system-ready`. */
export function launchEventsOf(events: readonly RuntimeEvent[]): readonly RuntimeEvent[] {
  const end = events.findIndex(({ event }) => event === SYSTEM_READY);
  return end === -1 ? events : events.slice(0, end);
}

/** The payload of the first launch event of that name, empty without one: dstack's lookup rule. */
export function launchPayload(events: readonly RuntimeEvent[], name: string): Uint8Array {
  return launchEventsOf(events).find(({ event }) => event === name)?.payload ?? NONE;
}

/**
 * What an id of 20 bytes, as an app's URL has it, must equal: the instance id where the log claims it as
 * one, the app id otherwise. The log is not verified yet; the check the answer asks for is what compares.
 */
export function expectationOfId(
  id: Uint8Array,
  events: readonly RuntimeEvent[],
): { readonly appId: Uint8Array } | { readonly instanceId: Uint8Array } {
  return equalBytes(id, launchPayload(events, "instance-id")) ? { instanceId: id } : { appId: id };
}

/** Hashes of the init scripts that ran before the app, in order. */
export function initScriptHashesOf(events: readonly RuntimeEvent[]): readonly Uint8Array[] {
  return launchEventsOf(events).filter(({ event }) => event === "init-script-hash")
    .map(({ payload }) => payload);
}

/** How often each launch event may occur, and the lengths its payload may have in bytes. */
const RULES = [
  { name: "app-id", required: true, lengths: [20], bootTime: true },
  { name: "compose-hash", required: true, lengths: [32], bootTime: true },
  { name: "instance-id", required: true, lengths: [0, 20], bootTime: true },
  { name: "gpu-policy-hash", required: false, lengths: [32], bootTime: true },
  { name: BOOT_MR_DONE, required: true, lengths: [0], bootTime: true },
  { name: "os-image-hash", required: false, lengths: [32], bootTime: false },
] as const;

/**
 * Checks what dstack's first-match lookup leaves open: events that say who the guest is occur exactly
 * once, have their length, and those the boot-time measurements must cover stand before
 * `boot-mr-done`. Unknown events may stand between them, other guest versions have others.
 * Throws `attestation/refused`.
 */
export function requireLaunchEvents(events: readonly RuntimeEvent[]): void {
  const launch = launchEventsOf(events);
  const boundary = launch.findIndex(({ event }) => event === BOOT_MR_DONE);
  if (boundary === -1) {
    throw refusal("launch-event-missing", `The log has no ${BOOT_MR_DONE} event`);
  }
  for (const { name, required, lengths, bootTime } of RULES) {
    const at = indexesOf(launch, name);
    if (at.length === 0 && required) {
      throw refusal("launch-event-missing", `The log has no ${name} event`);
    }
    if (at.length > 1) {
      throw refusal("launch-event-duplicated", `The log has ${at.length} ${name} events`);
    }
    const index = at[0];
    if (index === undefined) continue;
    const { length } = launch[index]!.payload;
    if (!(lengths as readonly number[]).includes(length)) {
      throw refusal("launch-event-malformed", `The payload of ${name} has ${length} bytes`);
    }
    if (bootTime ? index > boundary : index < boundary) throw misplaced(name);
  }
  const scripts = indexesOf(launch, "init-script-hash");
  if (scripts.length > MAX_INIT_SCRIPTS) {
    throw refusal("launch-event-duplicated", `The log has ${scripts.length} init scripts`);
  }
  for (const index of scripts) {
    if (launch[index]!.payload.length !== 32) {
      throw refusal("launch-event-malformed", "The payload of init-script-hash is not 32 bytes");
    }
    if (index > boundary) throw misplaced("init-script-hash");
  }
}

/**
 * The `key-provider` event; undefined before the guest has keys. Exactly one, after the boot-time
 * boundary, and a JSON object of `name` and `id`. Throws `attestation/refused`.
 */
export function keyProviderOf(events: readonly RuntimeEvent[]): KeyProviderInfo | undefined {
  const launch = launchEventsOf(events);
  const [index, ...more] = indexesOf(launch, "key-provider");
  if (index === undefined) return undefined;
  if (more.length > 0) {
    throw refusal("launch-event-duplicated", `The log has ${more.length + 1} key-provider events`);
  }
  if (index < launch.findIndex(({ event }) => event === BOOT_MR_DONE)) {
    throw misplaced("key-provider");
  }
  return parseKeyProvider(launch[index]!.payload);
}

function parseKeyProvider(payload: Uint8Array): KeyProviderInfo {
  try {
    const json = new JsonObject(
      parseStrictJson(fromUtf8(payload, "key-provider"), "key-provider"),
      "key-provider",
    );
    return { name: json.string("name"), id: toHex(json.hex("id", undefined)) };
  } catch (cause) {
    throw refusal("key-provider-malformed", "The key-provider event is not understood", cause);
  }
}

function indexesOf(events: readonly RuntimeEvent[], name: string): number[] {
  return events.flatMap(({ event }, index) => event === name ? [index] : []);
}

function misplaced(name: string) {
  return refusal("launch-event-order", `The ${name} event is on the wrong side of ${BOOT_MR_DONE}`);
}
