import { AppError } from "../errors/app-error.ts";

/** What JSON can hold; a `bigint` stands for an integer outside the range a number holds exactly. */
export type JsonValue =
  | null
  | boolean
  | number
  | bigint
  | string
  | readonly JsonValue[]
  | { readonly [key: string]: JsonValue | undefined };

/**
 * JSON Canonicalization Scheme, RFC 8785: members sorted by UTF-16 code units (3.2.3), numbers and
 * strings as ECMAScript writes them (3.2.2), no white space. Members whose value is `undefined` are
 * absent. Throws `input/malformed` for what I-JSON forbids: numbers that are not finite, lone
 * surrogates; and for a `bigint`, which RFC 8785 has no form for.
 */
export function canonicalJson(value: JsonValue): string {
  if (value === null || typeof value === "boolean") return String(value);
  if (typeof value === "string") return quote(value);
  if (typeof value === "number") {
    if (!Number.isFinite(value)) throw refused(`${value} is not a JSON number`);
    return JSON.stringify(value);
  }
  if (typeof value === "bigint") throw refused("an integer beyond 2^53 has no canonical form");
  if (isArray(value)) return `[${value.map(canonicalJson).join(",")}]`;
  const members = Object.keys(value).sort().flatMap((key) => {
    const member = value[key];
    return member === undefined ? [] : [`${quote(key)}:${canonicalJson(member)}`];
  });
  return `{${members.join(",")}}`;
}

function quote(text: string): string {
  if (!text.isWellFormed()) throw refused("a string holds a lone surrogate");
  return JSON.stringify(text);
}

function isArray(value: object): value is readonly JsonValue[] {
  return Array.isArray(value);
}

function refused(why: string): AppError {
  return new AppError("input/malformed", `Cannot canonicalize JSON: ${why}`);
}
