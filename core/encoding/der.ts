import { concatBytes } from "../bytes/bytes.ts";
import { AppError } from "../errors/app-error.ts";

/** Identifier octets (X.690 8.1.2) of the types read here. */
export const DER = {
  boolean: 0x01,
  integer: 0x02,
  bitString: 0x03,
  octetString: 0x04,
  null: 0x05,
  oid: 0x06,
  enumerated: 0x0a,
  utf8String: 0x0c,
  printableString: 0x13,
  ia5String: 0x16,
  utcTime: 0x17,
  generalizedTime: 0x18,
  sequence: 0x30,
  set: 0x31,
  /** Context-specific, constructed: explicit tags and implicitly tagged structures. */
  context: (n: number): number => 0xa0 | n,
  /** Context-specific, primitive. */
  contextPrimitive: (n: number): number => 0x80 | n,
} as const;

export interface DerElement {
  readonly tag: number;
  readonly content: Uint8Array;
  /** Tag, length and content as received: what signatures and hashes are over. */
  readonly encoded: Uint8Array;
}

/**
 * Reads DER (X.690) of unknown origin: definite lengths in their shortest form, one-byte tags, an
 * element never longer than what holds it. Nesting is as deep as the caller goes, no deeper. Views
 * share memory with the input. Throws `input/malformed`.
 */
export class DerReader {
  readonly #bytes: Uint8Array;
  readonly #structure: string;
  readonly #end: number;
  #offset: number;

  /** `from` and `end` bound what is read of `bytes`. */
  constructor(bytes: Uint8Array, structure: string, from = 0, end = bytes.length) {
    this.#bytes = bytes;
    this.#structure = structure;
    this.#offset = from;
    this.#end = end;
  }

  get done(): boolean {
    return this.#offset === this.#end;
  }

  /** The next element's tag, undefined at the end. */
  peek(): number | undefined {
    return this.#offset < this.#end ? this.#bytes[this.#offset] : undefined;
  }

  any(field: string): DerElement {
    const start = this.#offset;
    const tag = this.peek() ?? 0;
    const from = this.#skip(field);
    return {
      tag,
      content: this.#bytes.subarray(from, this.#offset),
      encoded: this.#bytes.subarray(start, this.#offset),
    };
  }

  /** The content of the next element, whose tag must be `tag`. */
  content(field: string, tag: number): Uint8Array {
    const from = this.#skip(field, tag);
    return this.#bytes.subarray(from, this.#offset);
  }

  optional(field: string, tag: number): Uint8Array | undefined {
    return this.peek() === tag ? this.content(field, tag) : undefined;
  }

  enter(field: string, tag: number = DER.sequence): DerReader {
    const from = this.#skip(field, tag);
    return new DerReader(this.#bytes, `${this.#structure}.${field}`, from, this.#offset);
  }

  /** INTEGER of any size. */
  integer(field: string): bigint {
    const content = this.content(field, DER.integer);
    if (content.length === 0 || isPadded(content)) throw this.malformed(field, "is not minimal");
    let value = content[0]! & 0x80 ? -1n : 0n;
    for (const byte of content) value = value << 8n | BigInt(byte);
    return value;
  }

  /** INTEGER or ENUMERATED of 0 to 2^31 - 1. */
  small(field: string, tag: number = DER.integer): number {
    const content = this.content(field, tag);
    if (content.length === 0 || content.length > 4 || content[0]! & 0x80 || isPadded(content)) {
      throw this.malformed(field, "is not an unsigned integer of 31 bits");
    }
    return content.reduce((sum, byte) => sum * 256 + byte, 0);
  }

  boolean(field: string): boolean {
    const [byte, ...more] = this.content(field, DER.boolean);
    if (more.length > 0 || byte !== 0 && byte !== 0xff) throw this.malformed(field, "not boolean");
    return byte === 0xff;
  }

  oid(field: string): string {
    return decodeOid(this.content(field, DER.oid), () => this.malformed(field, "is not an OID"));
  }

  octetString(field: string): Uint8Array {
    return this.content(field, DER.octetString);
  }

  /** BIT STRING of whole bytes, as keys and signatures are. */
  bitString(field: string): Uint8Array {
    const content = this.content(field, DER.bitString);
    if (content[0] !== 0) throw this.malformed(field, "has unused bits");
    return content.subarray(1);
  }

  /** Refuses anything after the last element: trailing bytes are malleability. */
  end(): void {
    const left = this.#end - this.#offset;
    if (left > 0) throw this.malformed("end", `has ${left} bytes left after the last element`);
  }

  malformed(field: string, why: string): AppError {
    return new AppError("input/malformed", `Cannot parse ${this.#structure}: ${field} ${why}`);
  }

  /** Moves behind the next element, whose tag must be `tag` if one is given; answers where its content starts. */
  #skip(field: string, tag?: number): number {
    const found = this.peek();
    if (tag !== undefined && found !== tag) {
      const was = found === undefined ? "is missing" : `has tag 0x${found.toString(16)}`;
      throw this.malformed(field, `${was}, expected 0x${tag.toString(16)}`);
    }
    if ((this.#byte(field) & 0x1f) === 0x1f) {
      throw this.malformed(field, "has a tag of several bytes");
    }
    const length = this.#length(field);
    const from = this.#offset;
    if (length > this.#end - from) {
      throw this.malformed(field, `needs ${length} bytes at offset ${from}`);
    }
    this.#offset = from + length;
    return from;
  }

  #byte(field: string): number {
    const byte = this.peek();
    if (byte === undefined) throw this.malformed(field, "is missing");
    this.#offset++;
    return byte;
  }

  #length(field: string): number {
    const first = this.#byte(field);
    if (first < 0x80) return first;
    const count = first & 0x7f;
    if (count === 0 || count > 4) throw this.malformed(field, "has a length of unsupported form");
    let length = 0;
    for (let i = 0; i < count; i++) length = length * 256 + this.#byte(field);
    if (length < 0x80 || length < 256 ** (count - 1)) {
      throw this.malformed(field, "has a length that is not minimal");
    }
    return length;
  }
}

function isPadded(content: Uint8Array): boolean {
  const [first, second] = content;
  return second !== undefined &&
    (first === 0 && second < 0x80 || first === 0xff && second >= 0x80);
}

/** Beyond this an arc is counted as a bigint. */
const SAFE_ARC = 2 ** 46;
const MAX_ARC = 2n ** 128n;

function decodeOid(content: Uint8Array, refuse: () => AppError): string {
  const arcs: (number | bigint)[] = [];
  let arc: number | bigint = 0;
  let fresh = true;
  for (const byte of content) {
    if (fresh && byte === 0x80 || arc >= MAX_ARC) throw refuse();
    arc = typeof arc === "number" && arc < SAFE_ARC
      ? arc * 128 + (byte & 0x7f)
      : BigInt(arc) << 7n | BigInt(byte & 0x7f);
    fresh = byte < 0x80;
    if (fresh) {
      arcs.push(arc);
      arc = 0;
    }
  }
  const [first, ...rest] = arcs;
  if (!fresh || first === undefined) throw refuse();
  const root = first < 40 ? 0 : first < 80 ? 1 : 2;
  const second = typeof first === "number" ? first - root * 40 : first - 80n;
  return [root, second, ...rest].join(".");
}

export function der(tag: number, ...parts: readonly Uint8Array[]): Uint8Array {
  const content = concatBytes(...parts);
  const length: number[] = [];
  for (let left = content.length; left > 0; left = Math.floor(left / 256)) {
    length.unshift(left % 256);
  }
  const head = content.length < 0x80 ? [content.length] : [0x80 | length.length, ...length];
  return concatBytes(Uint8Array.of(tag, ...head), content);
}

export function derInteger(value: bigint): Uint8Array {
  const bytes: number[] = [];
  let left = value;
  do {
    bytes.unshift(Number(left & 0xffn));
    left >>= 8n;
  } while (left !== (bytes[0]! & 0x80 ? -1n : 0n));
  return der(DER.integer, Uint8Array.from(bytes));
}

export function derOid(dotted: string): Uint8Array {
  const [root, second, ...rest] = dotted.split(".").map(BigInt);
  if (root === undefined || second === undefined) throw new TypeError(`Not an OID: ${dotted}`);
  const bytes = [root * 40n + second, ...rest].flatMap((arc) => {
    const groups = [Number(arc & 0x7fn)];
    for (let left = arc >> 7n; left > 0n; left >>= 7n) groups.unshift(Number(left & 0x7fn) | 0x80);
    return groups;
  });
  return der(DER.oid, Uint8Array.from(bytes));
}

/** BIT STRING of whole bytes. */
export function derBitString(bytes: Uint8Array): Uint8Array {
  return der(DER.bitString, Uint8Array.of(0), bytes);
}
