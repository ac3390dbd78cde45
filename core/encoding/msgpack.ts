import { decode, encode } from "@msgpack/msgpack";
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
