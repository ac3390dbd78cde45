import { AppError } from "../errors/app-error.ts";
import { type CborLimits, type CborMap, type CborValue, decodeCbor } from "./cbor.ts";

/**
 * Reads the members of one CBOR map of unknown origin, each as the type its specification names; the
 * counterpart of JsonObject. Throws `input/malformed`, naming the structure and the member.
 */
export class CborObject {
  readonly #map: CborMap;
  readonly #structure: string;

  constructor(value: CborValue | undefined, structure: string) {
    if (!(value instanceof Map)) {
      throw new AppError("input/malformed", `Cannot parse ${structure}: expected a map`);
    }
    this.#map = value as CborMap;
    this.#structure = structure;
  }

  /** Decodes a document of `max` bytes at most that is one map. */
  static decode(
    bytes: Uint8Array,
    structure: string,
    max: number,
    limits: CborLimits = {},
  ): CborObject {
    if (bytes.length > max) {
      throw new AppError(
        "input/malformed",
        `Cannot parse ${structure}: ${bytes.length} bytes, at most ${max} are allowed`,
      );
    }
    return new CborObject(decodeCbor(bytes, structure, limits), structure);
  }

  /** Refuses every member that is not among `known`. */
  only(known: readonly string[]): this {
    for (const name of this.#map.keys()) {
      if (typeof name !== "string" || !known.includes(name)) {
        throw this.malformed(`unknown field \`${name}\``);
      }
    }
    return this;
  }

  /** Null counts as absent. */
  raw(name: string): CborValue | undefined {
    return this.#map.get(name) ?? undefined;
  }

  object(name: string): CborObject {
    return new CborObject(this.raw(name), `${this.#structure}.${name}`);
  }

  map(name: string): CborMap {
    const value = this.raw(name);
    if (!(value instanceof Map)) throw this.malformed(`${name} is not a map`);
    return value as CborMap;
  }

  array(name: string, max: number): readonly CborValue[] {
    const value = this.raw(name);
    if (!Array.isArray(value)) throw this.malformed(`${name} is not an array`);
    if (value.length > max) throw this.malformed(`${name} has more than ${max} items`);
    return value as readonly CborValue[];
  }

  exactly(name: string, expected: number | string): void {
    const value = this.raw(name);
    if (value !== expected) {
      throw this.malformed(`${name} is ${String(value)}, expected ${expected}`);
    }
  }

  unsigned(name: string, max: number): number {
    const value = this.raw(name);
    if (typeof value !== "number" || value < 0 || value > max) {
      throw this.malformed(`${name} is not a whole number from 0 to ${max}`);
    }
    return value;
  }

  text(name: string): string {
    const value = this.raw(name);
    if (typeof value !== "string") throw this.malformed(`${name} is not text`);
    return value;
  }

  /** A byte string, of `length` bytes when given. */
  bytes(name: string, length?: number): Uint8Array {
    const value = this.raw(name);
    if (!(value instanceof Uint8Array)) throw this.malformed(`${name} is not bytes`);
    if (length !== undefined && value.length !== length) {
      throw this.malformed(`${name} has ${value.length} bytes, not ${length}`);
    }
    return value;
  }

  optionalBytes(name: string): Uint8Array | undefined {
    return this.raw(name) === undefined ? undefined : this.bytes(name);
  }

  malformed(why: string): AppError {
    return new AppError("input/malformed", `Cannot parse ${this.#structure}: ${why}`);
  }
}
