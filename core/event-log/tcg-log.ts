import { ByteReader } from "../bytes/byte-reader.ts";
import { ByteWriter } from "../bytes/byte-writer.ts";
import { fromUtf8, utf8 } from "../bytes/bytes.ts";

/** Digest sizes in bytes by TCG algorithm id (TCG Algorithm Registry 6.10). */
const DIGEST_BYTES: Readonly<Record<number, number>> = { 0x4: 20, 0xb: 32, 0xc: 48, 0xd: 64 };
export const TCG_SHA256 = 0xb;
export const TCG_SHA384 = 0xc;

/** Counts in a log are bounded, and a whole log in bytes. */
const MAX_COUNT = 65536;
const MAX_LOG_BYTES = 4 * 1024 * 1024;

const EV_NO_ACTION = 3;
const END_OF_LOG = 0xffffffff;
const SPEC_ID_SIGNATURE = "Spec ID Event03\0";
const NONE = new Uint8Array(0);

/** One record of a crypto-agile log (TCG PC Client Platform Firmware Profile 10.2.2). */
export interface TcgEvent {
  /** PCR index, or the 1-based measurement register of a CCEL. */
  readonly register: number;
  readonly eventType: number;
  readonly digests: readonly { readonly algorithm: number; readonly digest: Uint8Array }[];
  readonly payload: Uint8Array;
}

export interface TcgLog {
  /** Algorithms the header announces, in its order. */
  readonly algorithms: readonly number[];
  readonly events: readonly TcgEvent[];
  /** Whether a terminating register number ended it, as a CCEL must; a TPM log ends with its bytes. */
  readonly terminated: boolean;
}

/**
 * Parses a TCG crypto-agile event log: the Spec ID header, then records until register FFFFFFFF or
 * the end of the bytes. What follows the terminator is buffer space. Throws `input/malformed`.
 */
export function parseTcgLog(bytes: Uint8Array): TcgLog {
  const r = new ByteReader(bytes, "TCG event log");
  if (bytes.length > MAX_LOG_BYTES) throw r.malformed("log", `is ${bytes.length} bytes long`);
  const algorithms = readHeader(r);
  const events: TcgEvent[] = [];
  while (r.remaining > 0) {
    const register = r.u32le("register");
    if (register === END_OF_LOG) return { algorithms, events, terminated: true };
    if (events.length === MAX_COUNT) throw r.malformed("records", `exceed ${MAX_COUNT}`);
    events.push(readEvent(r, register));
  }
  return { algorithms, events, terminated: false };
}

/** Encodes a log of one digest algorithm, with terminator: what a CCEL holds. */
export function encodeTcgLog(algorithm: number, events: readonly TcgEvent[]): Uint8Array {
  const digestBytes = DIGEST_BYTES[algorithm];
  if (digestBytes === undefined) throw new TypeError(`Unknown digest algorithm ${algorithm}`);
  const specId = new ByteWriter()
    .utf8(SPEC_ID_SIGNATURE)
    .u32le(0) // platform class: client
    .u8(0).u8(2).u8(0).u8(2) // specification 2.0 errata 0, UINTN of 8 bytes
    .u32le(1).u16le(algorithm).u16le(digestBytes)
    .u8(0) // no vendor information
    .finish();
  const w = new ByteWriter()
    .u32le(1).u32le(EV_NO_ACTION).zeros(20) // an SHA-1 that nothing extended
    .u32le(specId.length).bytes(specId);
  for (const event of events) {
    w.u32le(event.register).u32le(event.eventType).u32le(event.digests.length);
    for (const one of event.digests) {
      if (one.digest.length !== DIGEST_BYTES[one.algorithm]) {
        throw new TypeError(
          `A digest of algorithm ${one.algorithm} has ${one.digest.length} bytes`,
        );
      }
      w.u16le(one.algorithm).bytes(one.digest);
    }
    w.u32le(event.payload.length).bytes(event.payload);
  }
  return w.u32le(END_OF_LOG).finish();
}

function readHeader(r: ByteReader): number[] {
  r.u32le("header register");
  const type = r.u32le("header event type");
  if (type !== EV_NO_ACTION) throw r.malformed("header event type", `is ${type}, expected 3`);
  r.bytes("header digest", 20);
  const specId = new ByteReader(readPayload(r), "TCG Spec ID event");
  if (fromUtf8(specId.bytes("signature", 16), "TCG Spec ID signature") !== SPEC_ID_SIGNATURE) {
    throw specId.malformed("signature", "is not Spec ID Event03");
  }
  specId.bytes("class, version and UINTN size", 8);
  const count = specId.u32le("algorithm count");
  if (count > MAX_COUNT) throw specId.malformed("algorithm count", `is ${count}`);
  const algorithms: number[] = [];
  for (let i = 0; i < count; i++) {
    const algorithm = specId.u16le("algorithm");
    const size = specId.u16le("digest size");
    if (DIGEST_BYTES[algorithm] !== undefined && DIGEST_BYTES[algorithm] !== size) {
      throw specId.malformed("digest size", `is ${size} for algorithm ${algorithm}`);
    }
    algorithms.push(algorithm);
  }
  specId.bytes("vendor information", specId.u8("vendor information size"));
  specId.end();
  return algorithms;
}

function readEvent(r: ByteReader, register: number): TcgEvent {
  const eventType = r.u32le("event type");
  const count = r.u32le("digest count");
  if (count > MAX_COUNT) throw r.malformed("digest count", `is ${count}`);
  const digests: { algorithm: number; digest: Uint8Array }[] = [];
  for (let i = 0; i < count; i++) {
    const algorithm = r.u16le("digest algorithm");
    const length = DIGEST_BYTES[algorithm];
    if (length === undefined) throw r.malformed("digest algorithm", `${algorithm} is unknown`);
    digests.push({ algorithm, digest: r.bytes("digest", length) });
  }
  return { register, eventType, digests, payload: readPayload(r) };
}

function readPayload(r: ByteReader): Uint8Array {
  const length = r.u32le("event size");
  return length === 0 ? NONE : r.bounded("event", length, MAX_LOG_BYTES);
}

/** A record with one digest; `text` payloads are how firmware marks events. */
export function tcgEvent(
  register: number,
  eventType: number,
  algorithm: number,
  digest: Uint8Array,
  payload: Uint8Array | string = NONE,
): TcgEvent {
  const bytes = typeof payload === "string" ? utf8(payload) : payload;
  return { register, eventType, digests: [{ algorithm, digest }], payload: bytes };
}
