import { ByteReader } from "../bytes/byte-reader.ts";
import { ByteWriter } from "../bytes/byte-writer.ts";

/**
 * The part of CBOR (RFC 8949) that measurement documents and COSE use: whole numbers within 2^53, and
 * no floats, tags, booleans or indefinite lengths.
 */
export type CborValue =
  | number
  | string
  | null
  | Uint8Array
  | readonly CborValue[]
  | CborMap;

export type CborMap = ReadonlyMap<string | number, CborValue>;

const MAJOR = { unsigned: 0, negative: 1, bytes: 2, text: 3, array: 4, map: 5, simple: 7 } as const;
const NULL = 22;
const MAX_DEPTH = 8;

/** Encodes maps in insertion order and every length in its shortest form. */
export function encodeCbor(value: CborValue): Uint8Array {
  const w = new ByteWriter();
  write(w, value);
  return w.finish();
}

/** A map whose members keep the order they are written in. */
export function cborMap(members: Readonly<Record<string, CborValue>>): Map<string, CborValue> {
  return new Map(Object.entries(members));
}

function write(w: ByteWriter, value: CborValue): void {
  if (typeof value === "number") {
    if (value < 0) writeHead(w, MAJOR.negative, -1 - value);
    else writeHead(w, MAJOR.unsigned, value);
  } else if (value === null) {
    writeHead(w, MAJOR.simple, NULL);
  } else if (typeof value === "string") {
    const text = new TextEncoder().encode(value);
    writeHead(w, MAJOR.text, text.length);
    w.bytes(text);
  } else if (value instanceof Uint8Array) {
    writeHead(w, MAJOR.bytes, value.length);
    w.bytes(value);
  } else if (value instanceof Map) {
    writeHead(w, MAJOR.map, value.size);
    for (const [name, member] of value as CborMap) {
      write(w, name);
      write(w, member);
    }
  } else {
    const items = value as readonly CborValue[];
    writeHead(w, MAJOR.array, items.length);
    for (const item of items) write(w, item);
  }
}

function writeHead(w: ByteWriter, major: number, argument: number): void {
  if (!Number.isSafeInteger(argument) || argument < 0) {
    throw new TypeError(`CBOR cannot hold the argument ${argument}`);
  }
  const initial = major << 5;
  if (argument < 24) w.u8(initial | argument);
  else if (argument < 0x100) w.u8(initial | 24).u8(argument);
  else if (argument < 0x1_0000) w.u8(initial | 25).u16be(argument);
  else if (argument < 0x1_0000_0000) w.u8(initial | 26).u32be(argument);
  else w.u8(initial | 27).u64be(BigInt(argument));
}

export interface CborLimits {
  /** Reads arrays and maps of indefinite length too: some signers stream them. Default false. */
  readonly indefinite?: boolean;
}

/**
 * Decodes one document and refuses trailing bytes, repeated map keys, lengths not in their shortest
 * form, and every type outside `CborValue`. Throws `input/malformed`.
 */
export function decodeCbor(
  bytes: Uint8Array,
  structure: string,
  limits: CborLimits = {},
): CborValue {
  const r = new ByteReader(bytes, structure);
  const value = read(r, 0, limits);
  r.end();
  return value;
}

const INDEFINITE = 31;
const BREAK = 0xff;

function read(r: ByteReader, depth: number, limits: CborLimits): CborValue {
  return readFrom(r, r.u8("initial byte"), depth, limits);
}

function readFrom(r: ByteReader, initial: number, depth: number, limits: CborLimits): CborValue {
  if (depth > MAX_DEPTH) throw r.malformed("value", `is nested deeper than ${MAX_DEPTH}`);
  const major = initial >> 5;
  const isStreamed = limits.indefinite === true && (initial & 0x1f) === INDEFINITE;
  if (major === MAJOR.array || major === MAJOR.map) {
    // Each item takes a byte at least, so a count that lies ends with the input.
    const count = isStreamed ? undefined : readArgument(r, initial & 0x1f);
    return major === MAJOR.array
      ? readArray(r, count, depth, limits)
      : readMap(r, count, depth, limits);
  }
  const argument = readArgument(r, initial & 0x1f);
  switch (major) {
    case MAJOR.unsigned:
      return argument;
    case MAJOR.negative:
      return -1 - argument;
    case MAJOR.simple:
      if (initial !== (MAJOR.simple << 5 | NULL)) throw r.malformed("value", "is not null");
      return null;
    case MAJOR.bytes:
      return r.bytes("byte string", argument);
    case MAJOR.text:
      return r.utf8("text string", argument);
    default:
      throw r.malformed("value", `has the unsupported major type ${major}`);
  }
}

/** The initial byte of each item: of `count`, or up to the break. */
function* itemsOf(r: ByteReader, count: number | undefined): Generator<number> {
  for (let i = 0; count === undefined || i < count; i++) {
    const initial = r.u8("initial byte");
    if (count === undefined && initial === BREAK) return;
    yield initial;
  }
}

function readArray(
  r: ByteReader,
  count: number | undefined,
  depth: number,
  limits: CborLimits,
): CborValue[] {
  const items: CborValue[] = [];
  for (const initial of itemsOf(r, count)) items.push(readFrom(r, initial, depth + 1, limits));
  return items;
}

function readMap(
  r: ByteReader,
  count: number | undefined,
  depth: number,
  limits: CborLimits,
): CborMap {
  const map = new Map<string | number, CborValue>();
  for (const initial of itemsOf(r, count)) {
    const name = readFrom(r, initial, depth + 1, limits);
    if (typeof name !== "string" && typeof name !== "number") {
      throw r.malformed("map key", "is neither text nor a number");
    }
    if (map.has(name)) throw r.malformed("map key", `"${name}" repeats`);
    map.set(name, read(r, depth + 1, limits));
  }
  return map;
}

function readArgument(r: ByteReader, additional: number): number {
  if (additional < 24) return additional;
  let argument: number;
  let least: number;
  switch (additional) {
    case 24:
      [argument, least] = [r.u8("argument"), 24];
      break;
    case 25:
      [argument, least] = [r.u16be("argument"), 0x100];
      break;
    case 26:
      [argument, least] = [r.u32be("argument"), 0x1_0000];
      break;
    case 27:
      [argument, least] = [Number(r.u64be("argument")), 0x1_0000_0000];
      break;
    default:
      throw r.malformed("length", "is indefinite or reserved");
  }
  if (argument < least) throw r.malformed("argument", "is not in its shortest form");
  if (argument >= Number.MAX_SAFE_INTEGER) throw r.malformed("argument", "is beyond 2^53 - 2");
  return argument;
}
