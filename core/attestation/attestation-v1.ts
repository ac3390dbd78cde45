import { fromHex, toHex } from "../bytes/bytes.ts";
import { JsonObject } from "../encoding/json-object.ts";
import { decodeMsgpack, encodeMsgpack, type MsgpackValue } from "../encoding/msgpack.ts";
import { AppError } from "../errors/app-error.ts";
import type { RuntimeEvent } from "../event-log/runtime-event.ts";
import { MAX_EVENTS, type TdxEvent } from "../event-log/tdx-event.ts";
import {
  type Attestation,
  type GuestStack,
  type PlatformEvidence,
  TPM_PLATFORMS,
  type TpmQuote,
} from "./attestation.ts";

const MAX_U32 = 0xffffffff;

/** Whether a first byte starts a MessagePack map: fixmap, map 16 or map 32. */
export function isMsgpackMap(first: number): boolean {
  return first >= 0x80 && first <= 0x8f || first === 0xde || first === 0xdf;
}

/**
 * Decodes a V1 container (MessagePack, spec attestation.md 3.2). Byte members come as `bin`, as an
 * array of integers (what rmp-serde writes for plain vectors) or, for those JSON writes as hex, as
 * text; all are read.
 */
export function decodeAttestationV1(bytes: Uint8Array, maxSize: number): Attestation {
  const container = new JsonObject(decodeMsgpack(bytes, "attestation", maxSize), "attestation");
  const version = container.unsigned("version", 255);
  if (version !== 1) {
    throw new AppError("input/unsupported", `Cannot parse attestation: version ${version}`);
  }
  container.only(["version", "platform", "stack"]);
  return {
    platform: readPlatform(new JsonObject(container.raw("platform"), "attestation platform")),
    stack: readStack(new JsonObject(container.raw("stack"), "attestation stack")),
  };
}

export function encodeAttestationV1({ platform, stack }: Attestation): Uint8Array {
  return encodeMsgpack({ version: 1, platform: writePlatform(platform), stack: writeStack(stack) });
}

function readPlatform(platform: JsonObject): PlatformEvidence {
  const kind = platform.oneOf("kind", [
    "tdx",
    "gcp-tdx",
    "nitro-enclave",
    "aws-nitro-tpm",
    "sev-snp",
  ]);
  const data = new JsonObject(platform.raw("data"), `attestation platform ${kind}`);
  switch (kind) {
    case "tdx":
      return { kind, ...readTdxQuote(data) };
    case "gcp-tdx":
      return { kind, ...readTdxQuote(data), tpmQuote: readTpmQuote(data.raw("tpm_quote")) };
    case "nitro-enclave":
      return { kind, nsmQuote: readBytes(data, "nsm_quote") };
    case "aws-nitro-tpm":
      return { kind, attestationDoc: readBytes(data, "attestation_doc") };
    case "sev-snp":
      return {
        kind,
        report: readBytes(data, "report"),
        certChain: data.array("cert_chain").map((one) => toBytes(one, data, "cert_chain")),
        mrConfig: data.string("mr_config"),
      };
  }
}

function writePlatform(platform: PlatformEvidence): MsgpackValue {
  const { kind } = platform;
  switch (kind) {
    case "tdx":
      return { kind, data: writeTdxQuote(platform) };
    case "gcp-tdx":
      return {
        kind,
        data: { ...writeTdxQuote(platform), tpm_quote: writeTpmQuote(platform.tpmQuote) },
      };
    case "nitro-enclave":
      return { kind, data: { nsm_quote: integers(platform.nsmQuote) } };
    case "aws-nitro-tpm":
      return { kind, data: { attestation_doc: integers(platform.attestationDoc) } };
    case "sev-snp":
      return {
        kind,
        data: {
          report: integers(platform.report),
          cert_chain: platform.certChain.map(integers),
          mr_config: platform.mrConfig,
        },
      };
  }
}

function readStack(stack: JsonObject): GuestStack {
  const kind = stack.oneOf("kind", ["dstack", "dstack-pod"]);
  const data = new JsonObject(stack.raw("data"), `attestation stack ${kind}`);
  const reportData = readBytes(data, "report_data");
  if (reportData.length !== 64) throw data.malformed("report_data", "is not 64 bytes");
  const common = {
    reportData,
    runtimeEvents: items(data, "runtime_events").map(readRuntimeEvent),
    config: data.string("config"),
  };
  if (kind === "dstack") return { kind, ...common };
  return { kind, ...common, reportDataPayload: data.string("report_data_payload") };
}

function writeStack(stack: GuestStack): MsgpackValue {
  return {
    kind: stack.kind,
    data: {
      report_data: integers(stack.reportData),
      runtime_events: stack.runtimeEvents.map((event) => ({
        event: event.event,
        payload: event.payload,
        version: event.version === 1 ? undefined : event.version,
      })),
      config: stack.config,
      report_data_payload: stack.kind === "dstack-pod" ? stack.reportDataPayload ?? "" : undefined,
    },
  };
}

function readTdxQuote(data: JsonObject): { quote: Uint8Array; eventLog: TdxEvent[] } {
  return { quote: readBytes(data, "quote"), eventLog: items(data, "event_log").map(readTdxEvent) };
}

function writeTdxQuote(
  { quote, eventLog }: { readonly quote: Uint8Array; readonly eventLog: readonly TdxEvent[] },
): { [key: string]: MsgpackValue } {
  return {
    quote: integers(quote),
    event_log: eventLog.map((event) => ({
      imr: event.imr,
      event_type: event.eventType,
      digest: event.digest,
      event: event.event,
      event_payload: event.payload,
      version: event.version === 1 ? undefined : event.version,
      preimage: event.preimage,
    })),
  };
}

function readTdxEvent(value: unknown): TdxEvent {
  const event = new JsonObject(value, "attestation event");
  const preimage = event.raw("preimage") ?? undefined;
  return {
    imr: event.unsigned("imr", MAX_U32),
    eventType: event.unsigned("event_type", MAX_U32),
    digest: event.has("digest") ? readBytes(event, "digest") : new Uint8Array(0),
    event: event.string("event"),
    payload: readBytes(event, "event_payload"),
    version: readVersion(event),
    ...(preimage === undefined ? {} : {
      preimage: typeof preimage === "string" ? preimage : toHex(readBytes(event, "preimage")),
    }),
  };
}

function readRuntimeEvent(value: unknown): RuntimeEvent {
  const event = new JsonObject(value, "runtime event");
  return {
    event: event.string("event"),
    payload: readBytes(event, "payload"),
    version: readVersion(event),
  };
}

function readVersion(event: JsonObject): 1 | 2 {
  const version = event.unsigned("version", 255, 1);
  if (version !== 1 && version !== 2) throw event.malformed("version", "is not 1 or 2");
  return version;
}

function readTpmQuote(value: unknown): TpmQuote {
  const quote = new JsonObject(value, "TPM quote");
  return {
    message: readBytes(quote, "message"),
    signature: readBytes(quote, "signature"),
    pcrValues: items(quote, "pcr_values").map((item) => {
      const pcr = new JsonObject(item, "PCR value");
      return {
        index: pcr.unsigned("index", MAX_U32),
        algorithm: pcr.string("algorithm"),
        value: readBytes(pcr, "value"),
      };
    }),
    akCert: readBytes(quote, "ak_cert"),
    platform: quote.oneOf("platform", TPM_PLATFORMS),
    eventLog: items(quote, "event_log").map((item) => {
      const event = new JsonObject(item, "TPM event");
      return {
        pcrIndex: event.unsigned("pcr_index", MAX_U32),
        digest: readBytes(event, "digest"),
      };
    }),
  };
}

function writeTpmQuote(quote: TpmQuote): MsgpackValue {
  return {
    message: quote.message,
    signature: quote.signature,
    pcr_values: quote.pcrValues.map((pcr) => ({ ...pcr })),
    ak_cert: quote.akCert,
    platform: quote.platform,
    event_log: quote.eventLog.map(({ pcrIndex, digest }) => ({ pcr_index: pcrIndex, digest })),
  };
}

function items(data: JsonObject, name: string): readonly unknown[] {
  const list = data.array(name);
  if (list.length > MAX_EVENTS) throw data.malformed(name, `has more than ${MAX_EVENTS} items`);
  return list;
}

function readBytes(data: JsonObject, name: string): Uint8Array {
  return toBytes(data.raw(name), data, name);
}

function toBytes(value: unknown, data: JsonObject, name: string): Uint8Array {
  if (value instanceof Uint8Array) return value.slice();
  if (typeof value === "string") return fromHex(value, name);
  if (Array.isArray(value) && value.every(isByte)) return Uint8Array.from(value);
  throw data.malformed(name, "is not bytes");
}

function isByte(value: unknown): value is number {
  return typeof value === "number" && Number.isInteger(value) && value >= 0 && value <= 255;
}

function integers(bytes: Uint8Array): number[] {
  return Array.from(bytes);
}
