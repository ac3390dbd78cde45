import { fromHex, toHex, utf8 } from "#core/bytes/bytes.ts";
import { caseOf, type CaseSpec, flipHex } from "./case-spec.ts";
import type { ConformanceCase, Expectation } from "./case.ts";
import {
  APP_ID,
  bootLog,
  COMPOSE_HASH,
  containerV0,
  containerV1,
  digestOf,
  type Evidence,
  goodEvents,
  INSTANCE_ID,
  KEY_PROVIDER,
  logged,
  type LoggedEvent,
  mrConfigIdV1,
  mrConfigIdV2,
  mrConfigIdV3,
  preimageOf,
  replay,
  runtimeEvent,
  type RuntimeEventSpec,
} from "./guest.ts";
import { filled, type Scene } from "./scene.ts";

/** A CVM's evidence: what its guest did, and what its host then makes of the log. */
interface Guest {
  events: RuntimeEventSpec[];
  mrConfigId: Uint8Array;
  config: Record<string, unknown>;
}

interface CvmSpec {
  readonly title: string;
  readonly expect: Expectation;
  /** What the guest really measured. */
  readonly guest?: (guest: Guest) => void;
  /** What the log claims instead. */
  readonly log?: (log: LoggedEvent[]) => void;
  readonly scene?: (scene: Scene) => void;
  readonly require?: readonly string[];
  readonly request?: Readonly<Record<string, unknown>>;
  /** Sends a container instead of quote and log. */
  readonly container?: (evidence: Evidence) => Uint8Array;
}

const KINDS = ["tdx-v4", "tdx-v5-td15"] as const;
const REPORT_DATA = filled(64, 0xda);

/** Event log, launch events, identity, MRCONFIGID, containers. */
export function* cvmCases(): Generator<ConformanceCase> {
  for (const kind of KINDS) {
    for (const spec of [...logSpecs(), ...launchSpecs(), ...identitySpecs(), ...configSpecs()]) {
      yield caseOf(kind, "cvm", caseSpecOf(spec));
    }
  }
  for (const spec of containerSpecs()) yield caseOf("tdx-v4", "container", caseSpecOf(spec));
}

function caseSpecOf(spec: CvmSpec): CaseSpec {
  const guest: Guest = {
    events: goodEvents(),
    mrConfigId: filled(48, 0),
    config: { os_image_hash: "1a".repeat(32), qemu_version: "10.0.0" },
  };
  spec.guest?.(guest);
  const boot = bootLog();
  const registers = [0, 1, 2].map((imr) =>
    replay(boot.filter((event) => event.imr === imr).map(({ digest }) => fromHex(digest)))
  );
  const log = [...boot, ...guest.events.map(logged)];
  spec.log?.(log);
  const config = JSON.stringify(guest.config);
  const request: Record<string, unknown> = {
    event_log: JSON.stringify(log),
    vm_config: config,
    policy: { require: spec.require ?? ["event-log-replay", "launch-events"] },
  };
  return {
    title: spec.title,
    kind: "cvm",
    expect: spec.expect,
    change(scene) {
      for (const [i, register] of registers.entries()) scene.td[`rtmr${i}`] = register;
      scene.td["rtmr3"] = replay(guest.events.map(digestOf));
      scene.td["mrConfigId"] = guest.mrConfigId;
      spec.scene?.(scene);
    },
    patch({ quote }) {
      if (!spec.container) return;
      const evidence = { quote, log, events: guest.events, reportData: REPORT_DATA, config };
      request["attestation"] = toHex(spec.container(evidence));
      for (const name of ["quote", "event_log", "vm_config"]) request[name] = null;
    },
    request: Object.assign(request, spec.request),
  };
}

const good: Expectation = { outcome: "accepted", status: "UpToDate" };
const bad = (reason: string): Expectation => ({ outcome: "refused", reason });
const unreadable: Expectation = { outcome: "unreadable" };

function accepted(title: string, rest: Omit<CvmSpec, "title" | "expect"> = {}): CvmSpec {
  return { title, expect: good, ...rest };
}

function refused(reason: string, title: string, rest: Omit<CvmSpec, "title" | "expect">): CvmSpec {
  return { title, expect: bad(reason), ...rest };
}

const indexOf = (events: readonly RuntimeEventSpec[], name: string) =>
  events.findIndex((event) => event.name === name);
const inLog = (log: LoggedEvent[], name: string) => log.findIndex(({ event }) => event === name);

/** The log beside the registers. */
function logSpecs(): CvmSpec[] {
  const mismatch = "event-log-mismatch";
  const malformed = "event-log-malformed";
  return [
    accepted("the log replays"),
    ...[0, 1, 2, 3].map((imr) =>
      refused(mismatch, `RTMR${imr} is not what the log says`, {
        scene: ({ td }) => void (td[`rtmr${imr}`]![7]! ^= 1),
      })
    ),
    ...[0, 3, 5].map((index) =>
      refused(mismatch, `digest of boot event ${index} changed`, {
        log: (log) => void (log[index]!.digest = flipHex(log[index]!.digest, 20)),
      })
    ),
    ...["compose-hash", "app-id", "instance-id", "system-ready"].flatMap((name) => [
      refused(mismatch, `payload of ${name} changed`, {
        log(log) {
          const event = log[inLog(log, name)]!;
          event.event_payload = event.event_payload === "" ? "00" : flipHex(event.event_payload, 3);
        },
      }),
      refused(mismatch, `${name} dropped from the log`, {
        log: (log) => void log.splice(inLog(log, name), 1),
      }),
      refused(mismatch, `${name} twice in the log`, {
        log: (log) => void log.splice(inLog(log, name), 0, { ...log[inLog(log, name)]! }),
      }),
      refused(mismatch, `${name} under another name`, {
        log: (log) => void (log[inLog(log, name)]!.event += "x"),
      }),
      refused(mismatch, `${name} and its neighbour in the wrong order`, {
        log(log) {
          const index = inLog(log, name);
          const [event] = log.splice(index, 1);
          log.splice(index - 1, 0, event!);
        },
      }),
    ]),
    refused(mismatch, "boot events of RTMR0 in the wrong order", {
      log: (log) => void log.splice(0, 2, log[1]!, log[0]!),
    }),
    accepted("boot events of different registers in another order", {
      log: (log) => void log.splice(2, 2, log[3]!, log[2]!),
    }),
    refused(mismatch, "a boot event dropped", { log: (log) => void log.splice(1, 1) }),
    refused(mismatch, "a boot event twice", { log: (log) => void log.splice(1, 0, log[1]!) }),
    refused(mismatch, "an event nobody measured at the end", {
      log: (log) => void log.push(logged(runtimeEvent("extra"))),
    }),
    refused(mismatch, "no runtime event in the log", {
      log: (log) => void log.splice(inLog(log, "system-preparing")),
    }),
    refused(mismatch, "name and payload of an event cut elsewhere", {
      // Version 1 hashes `name:payload`: the same digest must not be read as another event.
      guest: ({ events }) => void events.push(runtimeEvent("late", "a:b")),
      log(log) {
        Object.assign(log.at(-1)!, { event: "lat", event_payload: toHex(utf8("e:a:b")) });
      },
    }),
    accepted("a stored digest of a version 1 event is not looked at", {
      log: (log) => void (log.at(-1)!.digest = "ab".repeat(48)),
    }),
    accepted("events of version 2", {
      guest: ({ events }) => events.forEach((event) => event.version = 2),
    }),
    accepted("events of both versions", {
      guest: ({ events }) => events.forEach((event, i) => event.version = i % 2 ? 2 : 1),
    }),
    accepted("a version 2 event with digest and preimage", {
      guest: ({ events }) => void events.push(runtimeEvent("late", "x", 2)),
      log(log) {
        const event = runtimeEvent("late", "x", 2);
        log.at(-1)!.digest = toHex(digestOf(event));
        log.at(-1)!.preimage = toHex(preimageOf(event));
      },
    }),
    refused(mismatch, "a version 2 event with another digest", {
      guest: ({ events }) => void events.push(runtimeEvent("late", "x", 2)),
      log: (log) => void (log.at(-1)!.digest = "ab".repeat(48)),
    }),
    refused(mismatch, "a version 2 event with another preimage", {
      guest: ({ events }) => void events.push(runtimeEvent("late", "x", 2)),
      log: (log) => void (log.at(-1)!.preimage = toHex(utf8("{}"))),
    }),
    refused(mismatch, "a version 2 event logged as version 1", {
      guest: ({ events }) => void events.push(runtimeEvent("late", "x", 2)),
      log: (log) => void delete log.at(-1)!.version,
    }),
    refused(mismatch, "a runtime event in RTMR2", {
      log: (log) => void (log.at(-1)!.imr = 2),
    }),
    refused(malformed, "a boot event in RTMR3", {
      log: (log) => void log.push({ ...log[0]!, imr: 3 }),
    }),
    refused(malformed, "an event in a register there is not", {
      log: (log) => void log.push({ ...log[0]!, imr: 4 }),
    }),
    { title: "a log that is no JSON", expect: unreadable, request: { event_log: "[{" } },
    { title: "a log that is no list", expect: unreadable, request: { event_log: "{}" } },
    {
      title: "a log with a number of events as text",
      expect: unreadable,
      request: { event_log: '[{"imr":"3"}]' },
    },
    {
      title: "an event of an unknown version",
      expect: unreadable,
      log: (log) => void (log.at(-1)!.version = 3),
    },
    {
      title: "a digest that is not hex",
      expect: unreadable,
      log: (log) => void (log[0]!.digest = "xy"),
    },
  ];
}

/** Which events a guest must have logged, how often and where. */
function launchSpecs(): CvmSpec[] {
  const REQUIRED = ["app-id", "compose-hash", "instance-id", "boot-mr-done"];
  const remove = (events: RuntimeEventSpec[], name: string) =>
    events.splice(indexOf(events, name), 1)[0]!;
  const init = (length = 32) => runtimeEvent("init-script-hash", filled(length, 1));
  return [
    ...REQUIRED.flatMap((name) => [
      refused("launch-event-missing", `the guest logged no ${name}`, {
        guest: ({ events }) => void remove(events, name),
      }),
      refused("launch-event-duplicated", `the guest logged ${name} twice`, {
        guest({ events }) {
          const index = indexOf(events, name);
          events.splice(index, 0, events[index]!);
        },
      }),
      refused("launch-event-malformed", `the guest logged ${name} with a byte too many`, {
        guest({ events }) {
          const event = events[indexOf(events, name)]!;
          event.payload = Uint8Array.from([...event.payload, 0]);
        },
      }),
    ]),
    ...["app-id", "compose-hash", "instance-id"].map((name) =>
      refused("launch-event-order", `the guest logged ${name} after boot-mr-done`, {
        guest({ events }) {
          const event = remove(events, name);
          events.splice(indexOf(events, "boot-mr-done") + 1, 0, event);
        },
      })
    ),
    ...["app-id", "compose-hash", "instance-id"].map((name) =>
      refused("launch-event-missing", `the guest logged ${name} after system-ready only`, {
        guest: ({ events }) => void events.push(remove(events, name)),
      })
    ),
    refused("launch-event-order", "the guest logged os-image-hash before boot-mr-done", {
      guest: ({ events }) => void events.unshift(remove(events, "os-image-hash")),
    }),
    accepted("no instance id", {
      guest: ({ events }) => {
        events[indexOf(events, "instance-id")]!.payload = new Uint8Array(0);
      },
    }),
    accepted("five init scripts", {
      guest: ({ events }) => void events.splice(3, 0, init(), init(), init(), init(), init()),
    }),
    refused("launch-event-duplicated", "six init scripts", {
      guest({ events }) {
        events.splice(3, 0, init(), init(), init(), init(), init(), init());
      },
    }),
    refused("launch-event-malformed", "hash of an init script of 31 bytes", {
      guest: ({ events }) => void events.splice(3, 0, init(31)),
    }),
    refused("launch-event-order", "an init script after boot-mr-done", {
      guest: ({ events }) => void events.splice(6, 0, init()),
    }),
    accepted("events that nobody knows", {
      guest({ events }) {
        events.splice(2, 0, runtimeEvent("rootfs-hash", "something"));
        events.push(runtimeEvent("my-app", "anything"));
      },
    }),
    accepted("the app logs a second compose-hash", {
      guest: ({ events }) => void events.push(runtimeEvent("compose-hash", filled(32, 9))),
      request: { reference: { compose_hash: toHex(COMPOSE_HASH) } },
    }),
    refused("launch-event-duplicated", "two key providers", {
      guest({ events }) {
        events.splice(7, 0, runtimeEvent("key-provider", '{"name":"none","id":""}'));
      },
    }),
    refused("launch-event-order", "key provider before boot-mr-done", {
      guest: ({ events }) => void events.unshift(remove(events, "key-provider")),
    }),
    ...["", "kms", "[]", '{"name":"kms"}', '{"name":"kms","id":"xyz"}', '{"name":1,"id":""}'].map(
      (payload) =>
        refused("key-provider-malformed", `key provider written as ${payload || "nothing"}`, {
          guest: ({ events }) => {
            events[indexOf(events, "key-provider")]!.payload = utf8(payload);
          },
        }),
    ),
  ];
}

/** What the caller expects of the app. */
function identitySpecs(): CvmSpec[] {
  const other = (bytes: Uint8Array) => flipHex(toHex(bytes), bytes.length - 1);
  const reference = (reference: Record<string, unknown>) => ({ request: { reference } });
  return [
    accepted("everything is as expected", {
      request: {
        report_data: toHex(REPORT_DATA),
        reference: {
          compose_hash: toHex(COMPOSE_HASH),
          app_id: toHex(APP_ID),
          instance_id: toHex(INSTANCE_ID),
          key_provider: KEY_PROVIDER,
        },
      },
    }),
    accepted("any id of the expected key provider", {
      ...reference({ key_provider: { name: "kms" } }),
    }),
    refused("compose-hash-mismatch", "another compose hash is expected", {
      ...reference({ compose_hash: other(COMPOSE_HASH) }),
    }),
    refused("app-id-mismatch", "another app is expected", reference({ app_id: other(APP_ID) })),
    refused("instance-id-mismatch", "another instance is expected", {
      ...reference({ instance_id: other(INSTANCE_ID) }),
    }),
    refused("key-provider-mismatch", "another key provider is expected", {
      ...reference({ key_provider: { name: "local-sgx" } }),
    }),
    refused("key-provider-mismatch", "another KMS is expected", {
      ...reference({ key_provider: { name: "kms", id: "00" } }),
    }),
    refused("report-data-mismatch", "another challenge was answered", {
      request: { report_data: flipHex(toHex(REPORT_DATA), 63) },
    }),
    refused("required-check-not-run", "a key provider is expected of a guest without keys", {
      guest: ({ events }) => void events.splice(indexOf(events, "boot-mr-done") + 1),
      ...reference({ key_provider: KEY_PROVIDER }),
    }),
    refused("required-check-not-run", "an OS image is expected, and nothing proves one", {
      ...reference({ os_image_hashes: ["1a".repeat(32)] }),
    }),
    refused("os-image-unknown", "a configuration that names no OS image", {
      guest: ({ config }) => void delete config["os_image_hash"],
    }),
    refused("os-image-document-malformed", "a lite configuration without its document", {
      guest: ({ config }) => void (config["tdx_attestation_variant"] = "lite"),
    }),
    refused("os-image-document-mismatch", "a document that is not the OS image's", {
      guest({ config }) {
        config["tdx_attestation_variant"] = "lite";
        config["tdx_measurement"] = {
          checksum_file: btoa(`${"00".repeat(32)}  measurement.tdx.cbor\n`),
          measurement: btoa("anything"),
        };
      },
    }),
  ];
}

/** MRCONFIGID, by which the host binds the configuration at launch. */
function configSpecs(): CvmSpec[] {
  const require = ["event-log-replay", "launch-events", "mr-config-id"];
  const mismatch = "mr-config-id-mismatch";
  const providerId = fromHex(KEY_PROVIDER.id);
  const document = (changes: Record<string, unknown> = {}) =>
    JSON.stringify({
      app_id: toHex(APP_ID),
      compose_hash: toHex(COMPOSE_HASH),
      instance_id: toHex(INSTANCE_ID),
      key_provider: "kms",
      key_provider_id: KEY_PROVIDER.id,
      version: 3,
      ...changes,
    });
  const bound = (mrConfigId: Uint8Array, mr_config?: string) => ({
    require,
    guest(guest: Guest) {
      guest.mrConfigId = mrConfigId;
      if (mr_config !== undefined) guest.config["mr_config"] = mr_config;
    },
  });
  const withByte = (bytes: Uint8Array, at: number, value: number) => bytes.with(at, value);
  const v1 = mrConfigIdV1(COMPOSE_HASH);
  return [
    accepted("MRCONFIGID of version 1", bound(v1)),
    refused(
      mismatch,
      "MRCONFIGID of version 1 for another app",
      bound(mrConfigIdV1(filled(32, 1))),
    ),
    refused(mismatch, "MRCONFIGID of version 1 with more behind it", bound(withByte(v1, 47, 1))),
    accepted("MRCONFIGID of version 2", {
      ...bound(mrConfigIdV2(COMPOSE_HASH, APP_ID, providerId)),
      request: { reference: { key_provider: KEY_PROVIDER } },
    }),
    refused(mismatch, "MRCONFIGID of version 2 for another app id", {
      ...bound(mrConfigIdV2(COMPOSE_HASH, filled(20, 1), providerId)),
      request: { reference: { key_provider: KEY_PROVIDER } },
    }),
    refused(mismatch, "MRCONFIGID of version 2 for another key provider", {
      ...bound(mrConfigIdV2(COMPOSE_HASH, APP_ID, filled(5, 1))),
      request: { reference: { key_provider: KEY_PROVIDER } },
    }),
    accepted("MRCONFIGID of version 3", bound(mrConfigIdV3(document()), document())),
    refused(mismatch, "MRCONFIGID of version 3 for another document", {
      ...bound(mrConfigIdV3(document({ instance_id: "00".repeat(20) })), document()),
    }),
    ...([
      ["compose_hash", "00".repeat(32)],
      ["app_id", "00".repeat(20)],
      ["instance_id", "00".repeat(20)],
      ["key_provider", "tpm"],
      ["key_provider_id", "00"],
      ["init_script_hashes", ["11".repeat(32)]],
    ] as const).map(([member, value]) =>
      refused(mismatch, `document of version 3 with another ${member}`, {
        ...bound(mrConfigIdV3(document({ [member]: value })), document({ [member]: value })),
      })
    ),
    refused("mr-config-id-missing", "MRCONFIGID of version 3 without its document", {
      ...bound(mrConfigIdV3(document())),
    }),
    refused("mr-config-id-missing", "no MRCONFIGID where one is required", bound(filled(48, 0))),
    accepted("no MRCONFIGID where none is required"),
    refused("mr-config-id-unsupported", "MRCONFIGID of version 4", bound(withByte(v1, 0, 4))),
    refused("mr-config-id-unsupported", "MRCONFIGID of version 255", bound(withByte(v1, 0, 255))),
  ];
}

/** The containers evidence travels in: well-formed to the last byte, or unreadable. */
function containerSpecs(): CvmSpec[] {
  const cutV0 = [1, 2, 3, 4, 100, 1000, 3000].map((length): CvmSpec => ({
    title: `V0 container cut off after ${length} bytes`,
    expect: unreadable,
    container: (evidence) => containerV0(evidence).slice(0, length),
  }));
  const cutV1 = [1, 10, 100, 1000, 3000].map((length): CvmSpec => ({
    title: `V1 container cut off after ${length} bytes`,
    expect: unreadable,
    container: (evidence) => containerV1(evidence).slice(0, length),
  }));
  const odd = (title: string, bytes: Uint8Array): CvmSpec => ({
    title,
    expect: unreadable,
    container: () => bytes,
  });
  return [
    accepted("V0 container", { container: containerV0 }),
    accepted("V1 container", { container: containerV1 }),
    accepted("V1 container with events of version 2", {
      guest: ({ events }) => events.forEach((event) => event.version = 2),
      container: containerV1,
    }),
    refused("report-data-mismatch", "V0 container that names other report data", {
      container: (evidence) => containerV0({ ...evidence, reportData: filled(64, 1) }),
    }),
    refused("report-data-mismatch", "V1 container that names other report data", {
      container: (evidence) => containerV1({ ...evidence, reportData: filled(64, 1) }),
    }),
    refused("event-log-mismatch", "V0 container whose runtime events tell another boot", {
      container: (evidence) => containerV0({ ...evidence, events: evidence.events.slice(0, -1) }),
    }),
    refused("event-log-mismatch", "V1 container whose runtime events tell another boot", {
      container: (evidence) => containerV1({ ...evidence, events: evidence.events.slice(0, -1) }),
    }),
    refused("event-log-mismatch", "V0 container whose log tells another boot", {
      container: (evidence) => containerV0({ ...evidence, log: evidence.log.slice(0, -1) }),
    }),
    refused("evidence-malformed", "V0 container with a quote that is cut off", {
      container: (evidence) => containerV0({ ...evidence, quote: evidence.quote.slice(0, 900) }),
    }),
    ...cutV0,
    ...cutV1,
    {
      title: "V0 container with a byte behind it",
      expect: unreadable,
      container: (evidence) => Uint8Array.from([...containerV0(evidence), 0]),
    },
    {
      title: "V1 container with a byte behind it",
      expect: unreadable,
      container: (evidence) => Uint8Array.from([...containerV1(evidence), 0]),
    },
    ...[0, 2, 255].map((version): CvmSpec => ({
      title: `V1 container that says version ${version}`,
      expect: unreadable,
      container: (evidence) => containerV1(evidence, version),
    })),
    odd("no container at all", new Uint8Array(0)),
    odd("a container of an unknown kind", Uint8Array.of(1, 2, 3)),
    odd("a V0 container of an unknown TEE", Uint8Array.of(0, 9, 0, 0)),
    odd("a V0 container of a length without end", Uint8Array.of(0, 0, 3, 255, 255, 255, 255)),
    { title: "a container beside a quote", expect: unreadable, request: { attestation: "00" } },
  ];
}
