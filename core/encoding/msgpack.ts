import { decode, encode } from "@msgpack/msgpack";
import { ByteReader } from "../bytes/byte-reader.ts";
import { AppError } from "../errors/app-error.ts";

/** What MessagePack documents of dstack hold. Integers beyond 32 bits are read as `bigint`. */
export type MsgpackValue =
  | null
  | boolean
  | number
  | bigint
  | string
  | Uint8Array
  | readonly MsgpackValue[]
  | { readonly [key: string]: MsgpackValue | undefined };

const MAX_DEPTH = 32;

/**
 * Decodes one MessagePack value of at most `maxSize` bytes. Refuses trailing bytes, repeated map
 * keys, keys that are not text, extension types and deep nesting. Throws `input/malformed` or
 * `input/too-large`.
 */
export function decodeMsgpack(bytes: Uint8Array, name: string, maxSize: number): MsgpackValue {
  if (bytes.length > maxSize) {
    throw new AppError(
      "input/too-large",
      `Cannot parse ${name}: ${bytes.length} bytes, at most ${maxSize} are allowed`,
    );
  }
  requireHonestCounts(bytes, name);
  let keysRead = 0;
  let value: unknown;
  try {
    value = decode(bytes, {
      useBigInt64: true,
      maxStrLength: maxSize,
      maxBinLength: maxSize,
      maxArrayLength: maxSize,
      maxMapLength: maxSize,
      maxExtLength: 0,
      mapKeyConverter: (key) => {
        if (typeof key !== "string") throw new TypeError("a map key is not text");
        keysRead++;
        return key;
      },
    });
  } catch (cause) {
    throw new AppError("input/malformed", `Cannot parse ${name}: not valid MessagePack`, { cause });
  }
  const seen = { keys: 0 };
  checkMsgpack(value, name, MAX_DEPTH, seen);
  if (seen.keys !== keysRead) {
    throw new AppError("input/malformed", `Cannot parse ${name}: a map key repeats`);
  }
  return value;
}

/**
 * Walks the document without building it. The library makes room for as many items as an array
 * announces, on every level, so what is announced must be there.
 */
function requireHonestCounts(bytes: Uint8Array, name: string): void {
  const r = new ByteReader(bytes, name);
  const open = [1]; // items still to come on each level
  while (open.length > 0) {
    const left = open.pop()!;
    if (left === 0) continue;
    if (open.length > MAX_DEPTH) {
      throw new AppError(
        "input/malformed",
        `Cannot parse ${name}: nested deeper than ${MAX_DEPTH}`,
      );
    }
    open.push(left - 1);
    const items = skipHead(r);
    if (items > r.remaining) throw r.malformed("array", `announces ${items} items`);
    if (items > 0) open.push(items);
  }
  r.end();
}

/** Reads a value, but for the items of an array or map: answers how many follow. */
function skipHead(r: ByteReader): number {
  const first = r.u8("type");
  if (first >= 0x80 && first < 0x90) return 2 * (first & 0x0f);
  if (first >= 0x90 && first < 0xa0) return first & 0x0f;
  if (first === 0xdc) return r.u16be("length");
  if (first === 0xdd) return r.u32be("length");
  if (first === 0xde) return 2 * r.u16be("length");
  if (first === 0xdf) return 2 * r.u32be("length");
  r.skip("value", contentBytes(r, first));
  return 0;
}

/** Bytes after the head of a value that holds no others (MessagePack specification, "Formats"). */
function contentBytes(r: ByteReader, first: number): number {
  if (first >= 0xa0 && first < 0xc0) return first & 0x1f;
  if (first >= 0xd4 && first <= 0xd8) return 1 + (1 << (first - 0xd4)); // type and content
  switch (first) {
    case 0xc4: // binary
    case 0xd9: // text
      return r.u8("length");
    case 0xc5:
    case 0xda:
      return r.u16be("length");
    case 0xc6:
    case 0xdb:
      return r.u32be("length");
    case 0xc7: // extension: type and content
      return 1 + r.u8("length");
    case 0xc8:
      return 1 + r.u16be("length");
    case 0xc9:
      return 1 + r.u32be("length");
    case 0xca: // floating point
      return 4;
    case 0xcb:
      return 8;
    case 0xcc: // integers
    case 0xcd:
    case 0xce:
    case 0xcf:
      return 1 << (first - 0xcc);
    case 0xd0:
    case 0xd1:
    case 0xd2:
    case 0xd3:
      return 1 << (first - 0xd0);
    default:
      return 0;
  }
}

function checkMsgpack(
  value: unknown,
  name: string,
  depth: number,
  seen: { keys: number },
): asserts value is MsgpackValue {
  if (depth === 0) {
    throw new AppError("input/malformed", `Cannot parse ${name}: nested deeper than ${MAX_DEPTH}`);
  }
  if (value instanceof Uint8Array || value === null || typeof value !== "object") return;
  if (Array.isArray(value)) {
    for (const item of value) checkMsgpack(item, name, depth - 1, seen);
  } else if (Object.getPrototypeOf(value) === Object.prototype) {
    const members = Object.values(value);
    seen.keys += members.length;
    for (const member of members) checkMsgpack(member, name, depth - 1, seen);
  } else {
    throw new AppError("input/malformed", `Cannot parse ${name}: holds an extension type`);
  }
}

/**
 * Encodes with the shortest form of every integer, as rmp-serde does. Members that are `undefined`
 * are absent; the order of keys is kept.
 */
export function encodeMsgpack(value: MsgpackValue): Uint8Array {
  return encode(withShortIntegers(value), { useBigInt64: true, ignoreUndefined: true });
}

function withShortIntegers(value: MsgpackValue | undefined): unknown {
  if (typeof value === "bigint") {
    return value >= -0x80000000n && value <= 0xffffffffn ? Number(value) : value;
  }
  if (typeof value === "number") {
    const wide = Number.isSafeInteger(value) && (value < -0x80000000 || value > 0xffffffff);
    return wide ? BigInt(value) : value;
  }
  if (value === null || typeof value !== "object" || value instanceof Uint8Array) return value;
  if (Array.isArray(value)) return value.map(withShortIntegers);
  return Object.fromEntries(
    Object.entries(value).map(([key, member]) => [key, withShortIntegers(member)]),
  );
}
