import { ByteReader } from "../bytes/byte-reader.ts";
import { AppError } from "../errors/app-error.ts";
import { parseQuote, type Quote } from "../tdx/quote.ts";
import type { TdReportBody } from "../tdx/td-report-body.ts";
import type { RuntimeEvent } from "../event-log/runtime-event.ts";
import {
  eventLogForCertificate,
  runtimeEventsOf,
  type TdxEvent,
  toTdxEvent,
} from "../event-log/tdx-event.ts";
import type { Attestation } from "./attestation.ts";
import { decodeAttestationV1, encodeAttestationV1, isMsgpackMap } from "./attestation-v1.ts";
import { encodeAttestationV0, readAttestationV0 } from "./attestation-v0.ts";

/** The largest container, in bytes. */
export const MAX_ATTESTATION_BYTES = 10 * 1024 * 1024;

/**
 * Decodes a VersionedAttestation: V0 is SCALE and starts with 00, V1 is a MessagePack map. Trailing
 * bytes are refused in both. Throws `input/malformed`, `input/unsupported` or `input/too-large`.
 */
export function decodeAttestation(bytes: Uint8Array): Attestation {
  if (bytes.length > MAX_ATTESTATION_BYTES) {
    throw new AppError("input/too-large", "Cannot parse attestation: more than 10 MiB");
  }
  const first = bytes[0];
  if (first === undefined) {
    throw new AppError("input/malformed", "Cannot parse attestation: no bytes");
  }
  if (first === 0) {
    const r = new ByteReader(bytes, "attestation");
    const attestation = readAttestationV0(r);
    r.end();
    return attestation;
  }
  if (isMsgpackMap(first)) return decodeAttestationV1(bytes, MAX_ATTESTATION_BYTES);
  throw new AppError(
    "input/unsupported",
    `Cannot parse attestation: unknown first byte 0x${first.toString(16).padStart(2, "0")}`,
  );
}

/** Encodes as V0 when that loses nothing, as V1 otherwise: the rule dstack's guests follow. */
export function encodeAttestation(attestation: Attestation): Uint8Array {
  return fitsV0(attestation) ? encodeAttestationV0(attestation) : encodeAttestationV1(attestation);
}

/** V0 knows neither digest version 2 (nor its preimages) nor the dstack-pod stack. */
export function fitsV0({ platform, stack }: Attestation): boolean {
  const logged = "eventLog" in platform ? platform.eventLog : [];
  return stack.kind === "dstack" &&
    [...stack.runtimeEvents, ...logged].every(({ version }) => version === 1);
}

/** The form certificates and stored attestations carry: the platform log reduced, the rest unchanged. */
export function stripAttestation(attestation: Attestation): Attestation {
  const { platform } = attestation;
  if (platform.kind === "tdx") {
    const eventLog = eventLogForCertificate(platform.eventLog);
    return { ...attestation, platform: { ...platform, eventLog } };
  }
  if (platform.kind === "gcp-tdx") {
    const eventLog = eventLogForCertificate(platform.eventLog).filter(({ imr }) => imr === 3);
    return { ...attestation, platform: { ...platform, eventLog } };
  }
  return attestation;
}

/**
 * The attestation a bare TDX quote and its log make (GetQuote answers, the legacy certificate
 * extensions). Report data is the quote's own: the caller must compare it with its challenge.
 */
export function attestationFromTdxQuote(
  quote: Uint8Array,
  eventLog: readonly TdxEvent[],
  config: string,
): Attestation {
  const reportData = tdReportOf(parseQuote(quote)).reportData;
  return {
    platform: { kind: "tdx", quote, eventLog },
    stack: { kind: "dstack", reportData, runtimeEvents: runtimeEventsOf(eventLog), config },
  };
}

/** A fresh attestation as a TDX guest makes it: `bootLog` is RTMR0-2, from the CCEL. */
export function attestationOfTdxGuest(guest: {
  readonly quote: Uint8Array;
  readonly reportData: Uint8Array;
  readonly bootLog: readonly TdxEvent[];
  readonly runtimeEvents: readonly RuntimeEvent[];
  readonly config: string;
}): Attestation {
  const { quote, reportData, bootLog, runtimeEvents, config } = guest;
  const eventLog = [...bootLog, ...runtimeEvents.map(toTdxEvent)];
  return {
    platform: { kind: "tdx", quote, eventLog },
    stack: { kind: "dstack", reportData, runtimeEvents, config },
  };
}

/** The TD report of a TDX quote; an SGX quote is refused with `input/unsupported`. */
export function tdReportOf(quote: Quote): TdReportBody {
  if (quote.body.kind === "sgx") {
    throw new AppError("input/unsupported", "Cannot use an SGX quote as a TDX quote");
  }
  return quote.body.report;
}
