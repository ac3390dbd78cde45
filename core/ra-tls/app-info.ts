import { decodeMsgpack, encodeMsgpack, type MsgpackValue } from "../encoding/msgpack.ts";
import { AppError } from "../errors/app-error.ts";

const MAX_BYTES = 64 * 1024;
const MAX_INIT_SCRIPTS = 5;
const HASH_BYTES = 32;
const FIELDS = [
  "appId",
  "composeHash",
  "instanceId",
  "deviceId",
  "mrSystem",
  "mrAggregated",
  "osImageHash",
  "keyProviderInfo",
] as const;

/**
 * App info as KMS-issued certificates carry it. It stems from the holder's own, not yet appraised
 * evidence: its device id is always SHA-256 of nothing, so never authorise on that.
 */
export interface CertificateAppInfo {
  readonly appId: Uint8Array;
  readonly composeHash: Uint8Array;
  readonly instanceId: Uint8Array;
  readonly deviceId: Uint8Array;
  readonly mrSystem: Uint8Array;
  readonly mrAggregated: Uint8Array;
  readonly osImageHash: Uint8Array;
  readonly keyProviderInfo: Uint8Array;
  /** Undefined for peers that do not measure them, which is not the same as none. */
  readonly initScriptHashes?: readonly Uint8Array[] | undefined;
}

/** A MessagePack array of nine: eight binaries and an array or nil (attestation.md 4.1). */
export function encodeAppInfo(info: CertificateAppInfo): Uint8Array {
  return encodeMsgpack([...FIELDS.map((field) => info[field]), info.initScriptHashes ?? null]);
}

/** Accepts the eight-member arrays of older peers too. Throws `input/malformed`. */
export function decodeAppInfo(bytes: Uint8Array): CertificateAppInfo {
  const list = decodeMsgpack(bytes, "app info", MAX_BYTES);
  if (!Array.isArray(list) || list.length < 8 || list.length > 9) {
    throw new AppError("input/malformed", "Cannot parse app info: expected an array of 9");
  }
  const binary = (index: number) => asBytes(list[index], FIELDS[index]!);
  return {
    appId: binary(0),
    composeHash: binary(1),
    instanceId: binary(2),
    deviceId: binary(3),
    mrSystem: binary(4),
    mrAggregated: binary(5),
    osImageHash: binary(6),
    keyProviderInfo: binary(7),
    initScriptHashes: asHashes(list[8] as MsgpackValue | undefined),
  };
}

/** `bin`, or the array of integers that serde writes for plain byte vectors. */
function asBytes(value: MsgpackValue | undefined, field: string): Uint8Array {
  if (value instanceof Uint8Array) return value;
  if (Array.isArray(value) && value.every(isByte)) return Uint8Array.from(value);
  throw new AppError("input/malformed", `Cannot parse app info: ${field} is not binary`);
}

/** At most five digests; nil, or nothing from older peers, where they are not measured. */
function asHashes(value: MsgpackValue | undefined): Uint8Array[] | undefined {
  if (value === undefined || value === null) return undefined;
  const hashes = Array.isArray(value)
    ? value.map((hash: MsgpackValue) => asBytes(hash, "initScriptHashes"))
    : undefined;
  const isList = hashes && hashes.length <= MAX_INIT_SCRIPTS &&
    hashes.every(({ length }) => length === HASH_BYTES);
  if (isList) return hashes;
  throw new AppError(
    "input/malformed",
    `Cannot parse app info: initScriptHashes are not ${MAX_INIT_SCRIPTS} digests at most`,
  );
}

function isByte(value: MsgpackValue): value is number {
  return typeof value === "number" && Number.isInteger(value) && value >= 0 && value < 256;
}
