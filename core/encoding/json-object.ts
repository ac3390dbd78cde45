import { AppError } from "../errors/app-error.ts";
import { fromHex } from "../bytes/bytes.ts";

/**
 * Reads the members of one JSON object of unknown origin, each as the type its specification names.
 * Throws `input/malformed`, naming the structure and the member.
 */
export class JsonObject {
  readonly #members: Readonly<Record<string, unknown>>;
  readonly #structure: string;

  constructor(value: unknown, structure: string) {
    if (typeof value !== "object" || value === null || Array.isArray(value)) {
      throw new AppError("input/malformed", `Cannot parse ${structure}: expected an object`);
    }
    this.#members = value as Record<string, unknown>;
    this.#structure = structure;
  }

  has(name: string): boolean {
    return Object.hasOwn(this.#members, name);
  }

  /** The member as it stands, or undefined when absent. */
  raw(name: string): unknown {
    return this.has(name) ? this.#members[name] : undefined;
  }

  /** The same object read as parsers do that take an explicit null for an absent member. */
  withoutNulls(): JsonObject {
    const members = Object.entries(this.#members).filter(([, value]) => value !== null);
    return new JsonObject(Object.fromEntries(members), this.#structure);
  }

  /** Refuses every member that is not among `known`. */
  only(known: readonly string[]): this {
    for (const name of Object.keys(this.#members)) {
      if (!known.includes(name)) {
        throw new AppError(
          "input/malformed",
          `Cannot parse ${this.#structure}: unknown field \`${name}\`, expected one of ${
            known.map((k) => `\`${k}\``).join(", ")
          }`,
        );
      }
    }
    return this;
  }

  string(name: string): string;
  string<T>(name: string, fallback: T): string | T;
  string(name: string, ...fallback: unknown[]): unknown {
    return this.#read(name, fallback, (value) => typeof value === "string", "a string");
  }

  boolean(name: string): boolean;
  boolean<T>(name: string, fallback: T): boolean | T;
  boolean(name: string, ...fallback: unknown[]): unknown {
    return this.#read(name, fallback, (value) => typeof value === "boolean", "a boolean");
  }

  /** A whole number from 0 to `max` (2^53 - 1 at most). */
  unsigned(name: string, max: number): number;
  unsigned<T>(name: string, max: number, fallback: T): number | T;
  unsigned(name: string, max: number, ...fallback: unknown[]): unknown {
    const isUnsigned = (value: unknown) =>
      typeof value === "number" && Number.isSafeInteger(value) && value >= 0 && value <= max;
    return this.#read(name, fallback, isUnsigned, `a whole number from 0 to ${max}`);
  }

  /** Hex text of `length` bytes (any length when undefined). */
  hex(name: string, length: number | undefined): Uint8Array;
  hex<T>(name: string, length: number | undefined, fallback: T): Uint8Array | T;
  hex(name: string, length: number | undefined, ...fallback: unknown[]): unknown {
    if (!this.has(name) && fallback.length > 0) return fallback[0];
    return fromHex(this.string(name), `${this.#structure}: ${name}`, length);
  }

  array(name: string): readonly unknown[];
  array(name: string, fallback: readonly unknown[]): readonly unknown[];
  array(name: string, ...fallback: unknown[]): unknown {
    return this.#read(name, fallback, Array.isArray, "an array");
  }

  strings(name: string): readonly string[];
  strings(name: string, fallback: readonly string[]): readonly string[];
  strings(name: string, fallback: undefined): readonly string[] | undefined;
  strings(name: string, ...fallback: unknown[]): unknown {
    const isStrings = (value: unknown) =>
      Array.isArray(value) && value.every((item) => typeof item === "string");
    return this.#read(name, fallback, isStrings, "an array of strings");
  }

  oneOf<const T extends string>(name: string, allowed: readonly T[]): T;
  oneOf<const T extends string, F>(name: string, allowed: readonly T[], fallback: F): T | F;
  oneOf(name: string, allowed: readonly string[], ...fallback: unknown[]): unknown {
    const isAllowed = (value: unknown) => typeof value === "string" && allowed.includes(value);
    return this.#read(name, fallback, isAllowed, `one of ${allowed.join(", ")}`);
  }

  malformed(name: string, why: string, cause?: unknown): AppError {
    return new AppError(
      "input/malformed",
      `Cannot parse ${this.#structure}: ${name} ${why}`,
      cause === undefined ? {} : { cause },
    );
  }

  #read(
    name: string,
    fallback: readonly unknown[],
    accepts: (value: unknown) => boolean,
    expected: string,
  ): unknown {
    if (!this.has(name)) {
      if (fallback.length > 0) return fallback[0];
      throw this.malformed(name, "is missing");
    }
    const value = this.#members[name];
    if (!accepts(value)) throw this.malformed(name, `must be ${expected}`);
    return value;
  }
}
