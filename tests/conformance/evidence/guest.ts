import { keccak_256 } from "@noble/hashes/sha3.js";
import { sha256, sha384 } from "@noble/hashes/sha2.js";
import { encode } from "@msgpack/msgpack";
import { ByteWriter } from "#core/bytes/byte-writer.ts";
import { concatBytes, toHex, utf8 } from "#core/bytes/bytes.ts";

/**
 * What dstack's guest logs while it boots, replayed into registers, and the containers its evidence
 * travels in (spec attestation.md, sections 2, 3.2, 3.8).
 */
export interface RuntimeEventSpec {
  name: string;
  payload: Uint8Array;
  version: 1 | 2;
}

/** One event of a log as GetQuote writes it. */
export interface LoggedEvent {
  imr: number;
  event_type: number;
  digest: string;
  event: string;
  event_payload: string;
  version?: number;
  preimage?: string;
}

const RUNTIME_EVENT = 0x08000001;
const EV_EFI_BOOT_SERVICES_APPLICATION = 0x80000003;

export const COMPOSE_HASH = sha256(utf8("an app-compose.json"));
export const APP_ID = COMPOSE_HASH.slice(0, 20);
export const INSTANCE_ID = sha256(utf8("an instance")).slice(0, 20);
export const KEY_PROVIDER = { name: "kms", id: "3059301306" };

export function runtimeEvent(
  name: string,
  payload: Uint8Array | string = "",
  version: 1 | 2 = 1,
): RuntimeEventSpec {
  return { name, payload: typeof payload === "string" ? utf8(payload) : payload, version };
}

export function goodEvents(): RuntimeEventSpec[] {
  return [
    runtimeEvent("system-preparing"),
    runtimeEvent("app-id", APP_ID),
    runtimeEvent("compose-hash", COMPOSE_HASH),
    runtimeEvent("instance-id", INSTANCE_ID),
    runtimeEvent("boot-mr-done"),
    runtimeEvent("os-image-hash", sha256(utf8("an image"))),
    runtimeEvent("key-provider", JSON.stringify(KEY_PROVIDER)),
    runtimeEvent("storage-fs", "ext4"),
    runtimeEvent("system-ready"),
  ];
}

/** What firmware and loader measured into RTMR0 to RTMR2. */
export function bootLog(): LoggedEvent[] {
  return [0, 0, 0, 1, 1, 2, 2].map((imr, i) => ({
    imr,
    event_type: EV_EFI_BOOT_SERVICES_APPLICATION,
    digest: toHex(sha384(utf8(`boot event ${i}`))),
    event: "",
    event_payload: "",
  }));
}

export function logged({ name, payload, version }: RuntimeEventSpec): LoggedEvent {
  return {
    imr: 3,
    event_type: RUNTIME_EVENT,
    digest: "",
    event: name,
    event_payload: toHex(payload),
    ...(version === 2 ? { version } : {}),
  };
}

export function preimageOf(event: RuntimeEventSpec): Uint8Array {
  const { name, payload, version } = event;
  if (version === 2) {
    return utf8(`{"name":"${name}","payload":"${toHex(payload)}","type":${RUNTIME_EVENT}}`);
  }
  const type = new ByteWriter().u32le(RUNTIME_EVENT).finish();
  return concatBytes(type, utf8(`:${name}:`), payload);
}

export function digestOf(event: RuntimeEventSpec): Uint8Array {
  return sha384(preimageOf(event));
}

export function replay(digests: readonly Uint8Array[]): Uint8Array {
  return digests.reduce(
    (register, digest) => sha384(concatBytes(register, digest)),
    new Uint8Array(48),
  );
}

export function mrConfigIdV1(composeHash: Uint8Array): Uint8Array {
  return concatBytes(Uint8Array.of(1), composeHash, new Uint8Array(15));
}

/** With a KMS as key provider, whose kind is 2. */
export function mrConfigIdV2(
  composeHash: Uint8Array,
  appId: Uint8Array,
  keyProviderId: Uint8Array,
): Uint8Array {
  const digest = keccak_256(concatBytes(composeHash, appId, Uint8Array.of(2), keyProviderId));
  return concatBytes(Uint8Array.of(2), digest, new Uint8Array(15));
}

export function mrConfigIdV3(document: string): Uint8Array {
  const digest = sha256(
    concatBytes(utf8("dstack-mr-config-v3:"), Uint8Array.of(0), utf8(document)),
  );
  return concatBytes(Uint8Array.of(3), digest, new Uint8Array(15));
}

export interface Evidence {
  quote: Uint8Array;
  log: readonly LoggedEvent[];
  events: readonly RuntimeEventSpec[];
  reportData: Uint8Array;
  config: string;
}

/** The SCALE container. */
export function containerV0({ quote, log, events, reportData, config }: Evidence): Uint8Array {
  const bytes = (value: Uint8Array) => concatBytes(compact(value.length), value);
  const u32 = (value: number) => new ByteWriter().u32le(value).finish();
  return concatBytes(
    Uint8Array.of(0, 0),
    bytes(quote),
    compact(log.length),
    ...log.flatMap((event) => [
      u32(event.imr),
      u32(event.event_type),
      bytes(fromLower(event.digest)),
      bytes(utf8(event.event)),
      bytes(fromLower(event.event_payload)),
    ]),
    compact(events.length),
    ...events.flatMap(({ name, payload }) => [bytes(utf8(name)), bytes(payload)]),
    reportData,
    bytes(utf8(config)),
  );
}

/** The MessagePack container. */
export function containerV1(evidence: Evidence, version = 1): Uint8Array {
  const { quote, log, events, reportData, config } = evidence;
  return encode({
    version,
    platform: {
      kind: "tdx",
      data: {
        quote,
        event_log: log.map((event) => ({
          ...event,
          digest: fromLower(event.digest),
          event_payload: fromLower(event.event_payload),
        })),
      },
    },
    stack: {
      kind: "dstack",
      data: {
        report_data: reportData,
        runtime_events: events.map(({ name, payload, version }) => ({
          event: name,
          payload,
          ...(version === 2 ? { version } : {}),
        })),
        config,
      },
    },
  });
}

/** A SCALE compact length below 2^30. */
function compact(value: number): Uint8Array {
  if (value < 64) return Uint8Array.of(value << 2);
  if (value < 1 << 14) return new ByteWriter().u16le(value << 2 | 1).finish();
  return new ByteWriter().u32le((value << 2 | 2) >>> 0).finish();
}

function fromLower(hex: string): Uint8Array {
  return Uint8Array.from(hex.match(/../g) ?? [], (byte) => parseInt(byte, 16));
}
