/**
 * One encoded term of ACPI Machine Language, or several in a row (ACPI specification 6.5, chapter 20): a
 * string of one character a byte. Terms are put together thousands of times, which strings make cheap.
 */
export type Aml = string & { readonly [ENCODED]: true };
declare const ENCODED: unique symbol;

export const SPACE = { systemMemory: 0, systemIo: 1, pciConfig: 2 } as const;
export const ACCESS = { byte: 1, dword: 3 } as const;
/** What a write does to the bits beside the field. */
export const UPDATE = { preserve: 0, writeAsZeros: 2 } as const;

type Serialized = "serialized" | "notSerialized";

/** Prefix of two-byte opcodes. */
const EXT = 0x5b;

/** The bytes of terms, one after the other. */
export function amlBytes(...terms: readonly Aml[]): Uint8Array {
  const text = terms.join("");
  const bytes = new Uint8Array(text.length);
  for (let i = 0; i < text.length; i++) bytes[i] = text.charCodeAt(i);
  return bytes;
}

/** The shortest encoding, as QEMU chooses it. 0 to 2^53 - 1. */
export function integer(value: number): Aml {
  if (!Number.isSafeInteger(value) || value < 0) throw new RangeError(`AML integer ${value}`);
  if (value <= 1) return raw(value);
  if (value <= 0xff) return raw(0x0a, value);
  if (value <= 0xffff) return raw(0x0b, ...littleEndian(value, 2));
  if (value <= 0xffff_ffff) return raw(0x0c, ...littleEndian(value, 4));
  return raw(0x0e, ...littleEndian(value, 8));
}

export const ZERO = integer(0);
export const ONE = integer(1);

/** Encoded names by path: a table has thousands, of a few thousand paths at most. */
const NAMES = new Map<string, Aml>();

/** NameString of a path such as `\_SB.PCI0`, `^S08.PCNT` or `_CRS`; short segments are padded. */
export function name(path: string): Aml {
  let encoded = NAMES.get(path);
  if (encoded === undefined) NAMES.set(path, encoded = encodeName(path));
  return encoded;
}

function encodeName(path: string): Aml {
  const [, prefix, rest] = /^(\\?\^*)(.*)$/s.exec(path)!;
  const segments = rest === "" ? [] : rest!.split(".");
  for (const segment of segments) {
    if (!/^[A-Z_][A-Z0-9_]{0,3}$/.test(segment)) throw new RangeError(`AML name ${path}`);
  }
  const padded = segments.map((segment) => segment.padEnd(4, "_")).join("");
  return (prefix + segmentCount(segments.length) + padded) as Aml;
}

function segmentCount(count: number): Aml {
  if (count === 0) return raw(0x00);
  if (count === 1) return "" as Aml;
  return count === 2 ? raw(0x2e) : raw(0x2f, count);
}

/** ASCII. */
export function string(value: string): Aml {
  return concat(raw(0x0d), value as Aml, raw(0));
}

/** A compressed EISA id such as `PNP0A08`. */
export function eisaId(id: string): Aml {
  const [a, b, c] = [...id].map((letter) => letter.charCodeAt(0) - 0x40);
  const high = a! << 10 | b! << 5 | c!;
  const low = Number.parseInt(id.slice(3), 16);
  return raw(0x0c, high >> 8, high & 0xff, low >> 8, low & 0xff);
}

export function buffer(bytes: Uint8Array): Aml {
  let content = "";
  for (const byte of bytes) content += String.fromCharCode(byte);
  return packaged(raw(0x11), integer(bytes.length), content as Aml);
}

/** Sixteen bytes as ToUUID gives them: the first three groups byte-reversed. */
export function uuid(id: string): Aml {
  const hex = id.replaceAll("-", "");
  const order = [3, 2, 1, 0, 5, 4, 7, 6, 8, 9, 10, 11, 12, 13, 14, 15];
  return buffer(
    Uint8Array.from(order, (at) => Number.parseInt(hex.slice(2 * at, 2 * at + 2), 16)),
  );
}

/** `count` may exceed the elements given: the rest is uninitialised. */
export function list(elements: readonly Aml[], count = elements.length): Aml {
  return packaged(raw(0x12), raw(count), ...elements);
}

export function declare(path: string, value: Aml): Aml {
  return concat(raw(0x08), name(path), value);
}

export function scope(path: string, ...terms: Aml[]): Aml {
  return packaged(raw(0x10), name(path), ...terms);
}

export function device(path: string, ...terms: Aml[]): Aml {
  return packaged(raw(EXT, 0x82), name(path), ...terms);
}

/** A Processor without a P_BLK. */
export function processor(path: string, id: number, ...terms: Aml[]): Aml {
  return packaged(raw(EXT, 0x83), name(path), raw(id, 0, 0, 0, 0, 0), ...terms);
}

export function method(
  path: string,
  argumentCount: number,
  serialized: Serialized,
  ...terms: Aml[]
): Aml {
  const flags = argumentCount | (serialized === "serialized" ? 8 : 0);
  return packaged(raw(0x14), name(path), raw(flags), ...terms);
}

export function operationRegion(
  path: string,
  space: number,
  offset: number,
  length: number,
): Aml {
  return concat(
    raw(EXT, 0x80),
    name(path),
    raw(space),
    integer(offset),
    integer(length),
  );
}

/** Entries are names with a size in bits, or a number of bits to leave out. */
export function field(
  region: string,
  access: number,
  update: number,
  entries: readonly (readonly [string, number] | number)[],
  lock = false,
): Aml {
  const flags = access | (lock ? 0x10 : 0) | update << 5;
  const encoded = entries.map((entry) =>
    typeof entry === "number"
      ? concat(raw(0), packageLength(entry))
      : concat(name(entry[0]), packageLength(entry[1]))
  );
  return packaged(raw(EXT, 0x81), name(region), raw(flags), ...encoded);
}

export function mutex(path: string): Aml {
  return concat(raw(EXT, 0x01), name(path), raw(0));
}

export function acquire(path: string): Aml {
  return concat(raw(EXT, 0x23), name(path), raw(0xff, 0xff));
}

export function release(path: string): Aml {
  return concat(raw(EXT, 0x27), name(path));
}

export const DEBUG: Aml = raw(EXT, 0x31);

export function local(index: number): Aml {
  return raw(0x60 + index);
}

export function arg(index: number): Aml {
  return raw(0x68 + index);
}

const NO_TARGET: Aml = raw(0);

export const store = (value: Aml, target: Aml): Aml => operation(0x70, value, target);
export const subtract = (a: Aml, b: Aml, to: Aml = NO_TARGET): Aml => operation(0x74, a, b, to);
export const increment = (value: Aml): Aml => operation(0x75, value);
export const shiftLeft = (a: Aml, count: Aml, to: Aml = NO_TARGET): Aml =>
  operation(0x79, a, count, to);
export const and = (a: Aml, b: Aml, to: Aml = NO_TARGET): Aml => operation(0x7b, a, b, to);
export const or = (a: Aml, b: Aml, to: Aml = NO_TARGET): Aml => operation(0x7d, a, b, to);
export const dereference = (value: Aml): Aml => operation(0x83, value);
export const notify = (object: Aml, value: Aml): Aml => operation(0x86, object, value);
export const sizeOf = (value: Aml): Aml => operation(0x87, value);
export const element = (array: Aml, index: Aml): Aml => operation(0x88, array, index, NO_TARGET);
export const dwordField = (source: Aml, offset: Aml, path: string): Aml =>
  operation(0x8a, source, offset, name(path));
export const logicalAnd = (a: Aml, b: Aml): Aml => operation(0x90, a, b);
export const logicalOr = (a: Aml, b: Aml): Aml => operation(0x91, a, b);
export const not = (value: Aml): Aml => operation(0x92, value);
export const equal = (a: Aml, b: Aml): Aml => operation(0x93, a, b);
export const less = (a: Aml, b: Aml): Aml => operation(0x95, a, b);
export const toBuffer = (value: Aml, to: Aml): Aml => operation(0x96, value, to);
export const toHexString = (value: Aml, to: Aml): Aml => operation(0x98, value, to);
export const giveBack = (value: Aml): Aml => operation(0xa4, value);
export const BREAK: Aml = raw(0xa5);

export const when = (condition: Aml, ...terms: Aml[]): Aml =>
  packaged(raw(0xa0), condition, ...terms);
export const otherwise = (...terms: Aml[]): Aml => packaged(raw(0xa1), ...terms);
export const loop = (condition: Aml, ...terms: Aml[]): Aml =>
  packaged(raw(0xa2), condition, ...terms);

export function call(path: string, ...values: Aml[]): Aml {
  return concat(name(path), ...values);
}

function operation(code: number, ...operands: Aml[]): Aml {
  return concat(raw(code), ...operands);
}

/** A term that says how long it is. */
function packaged(opcode: Aml, ...parts: Aml[]): Aml {
  const inner = concat(...parts);
  let own = 1;
  while (inner.length + own >= limitOf(own)) own++;
  return concat(opcode, packageLength(inner.length + own, own), inner);
}

/** PkgLength in as few bytes as it fits in, or in `size` bytes. Below 2^28. */
function packageLength(length: number, size = 1): Aml {
  while (length >= limitOf(size)) size++;
  if (size === 1) return raw(length);
  const bytes = [(size - 1) << 6 | length & 0x0f];
  for (let i = 1; i < size; i++) bytes.push(length >> (8 * i - 4) & 0xff);
  return raw(...bytes);
}

function limitOf(size: number): number {
  if (size > 4) throw new RangeError("AML package of more than 2^28 bytes");
  return size === 1 ? 1 << 6 : 1 << (8 * size - 4);
}

function littleEndian(value: number, size: number): number[] {
  const bytes: number[] = [];
  for (let rest = value; bytes.length < size; rest = Math.floor(rest / 256)) {
    bytes.push(rest % 256);
  }
  return bytes;
}

/** Byte by byte. */
function raw(...bytes: number[]): Aml {
  return String.fromCharCode(...bytes) as Aml;
}

function concat(...terms: Aml[]): Aml {
  return terms.join("") as Aml;
}
