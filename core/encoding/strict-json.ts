import { fromUtf8 } from "../bytes/bytes.ts";
import { AppError } from "../errors/app-error.ts";
import type { JsonValue } from "./jcs.ts";

export interface StrictJsonLimits {
  /** Size of the text, in UTF-8 bytes for bytes and in UTF-16 units for a string. Default 1 MiB. */
  readonly maxSize?: number;
  /** Nesting of objects and arrays. Default 64. */
  readonly maxDepth?: number;
  /** Integers beyond 2^53 become a `bigint` instead of losing digits. Default false. */
  readonly exactIntegers?: boolean;
}

/**
 * Parses a JSON document of unknown origin. Two parsers that disagree about it can be played against
 * each other, so what RFC 8259 leaves open is refused: repeated member names, invalid UTF-8, a byte
 * order mark. Throws `input/malformed` or `input/too-large`; `name` says which document.
 */
export function parseStrictJson(
  document: string | Uint8Array,
  name: string,
  limits: StrictJsonLimits = {},
): JsonValue {
  const maxSize = limits.maxSize ?? 1024 * 1024;
  if (document.length > maxSize) {
    throw new AppError(
      "input/too-large",
      `Cannot parse ${name}: ${document.length} bytes, at most ${maxSize} are allowed`,
    );
  }
  const text = typeof document === "string" ? document : fromUtf8(document, name);
  checkShape(text, name, limits.maxDepth ?? 64);
  let value: JsonValue;
  try {
    value = limits.exactIntegers && /\d{16}/.test(text)
      ? JSON.parse(text, exactInteger)
      : JSON.parse(text);
  } catch (cause) {
    throw new AppError("input/malformed", `Cannot parse ${name}: not valid JSON`, { cause });
  }
  checkNames(text, name);
  return value;
}

/** A reviver; `context.source` is ECMAScript 2026's JSON.parse source text access. */
function exactInteger(_key: string, value: unknown, context?: { source?: string }): unknown {
  if (typeof value !== "number" || Number.isSafeInteger(value)) return value;
  const source = context?.source;
  return source !== undefined && /^-?\d+$/.test(source) ? BigInt(source) : value;
}

/** Commas and opened brackets of one document: what is built takes 30 times the bytes that name it. */
const MAX_PARTS = 1024 * 1024;

/** Before anything is built. Any text is walked, JSON or not. */
function checkShape(text: string, name: string, maxDepth: number): void {
  let depth = 0;
  let parts = 0;
  for (let i = 0; i < text.length; i++) {
    const char = text.charCodeAt(i);
    const opens = char === CHAR.openBrace || char === CHAR.openBracket;
    if (char === CHAR.quote) i = endOfString(text, i) - 1;
    else if (char === CHAR.closeBrace || char === CHAR.closeBracket) depth--;
    else if (opens && ++depth > maxDepth) {
      throw new AppError("input/malformed", `Cannot parse ${name}: nested deeper than ${maxDepth}`);
    }
    if ((opens || char === CHAR.comma) && ++parts > MAX_PARTS) {
      throw new AppError("input/too-large", `Cannot parse ${name}: more than ${MAX_PARTS} parts`);
    }
  }
}

/** Walks text that JSON.parse took: only strings and brackets matter. */
function checkNames(text: string, name: string): void {
  const open: (Set<string> | undefined)[] = []; // the names seen in each open object
  for (let i = 0; i < text.length; i++) {
    const char = text.charCodeAt(i);
    if (char === CHAR.openBrace || char === CHAR.openBracket) {
      open.push(char === CHAR.openBrace ? new Set() : undefined);
    } else if (char === CHAR.closeBrace || char === CHAR.closeBracket) {
      open.pop();
    } else if (char === CHAR.quote) {
      const end = endOfString(text, i);
      const names = open.at(-1);
      if (names !== undefined && isMemberName(text, end)) {
        const written = text.slice(i + 1, end - 1);
        const member: string = written.includes("\\") ? JSON.parse(`"${written}"`) : written;
        if (names.has(member)) {
          throw new AppError("input/malformed", `Cannot parse ${name}: member "${member}" repeats`);
        }
        names.add(member);
      }
      i = end - 1;
    }
  }
}

const CHAR = {
  quote: 0x22,
  comma: 0x2c,
  openBracket: 0x5b,
  backslash: 0x5c,
  closeBracket: 0x5d,
  openBrace: 0x7b,
  closeBrace: 0x7d,
} as const;

/** Past the closing quote of the string that starts at `start`; the end of the text where none closes it. */
export function endOfString(text: string, start: number): number {
  for (let quote = text.indexOf('"', start + 1);; quote = text.indexOf('"', quote + 1)) {
    if (quote === -1) return text.length;
    let escapes = 0;
    while (text.charCodeAt(quote - 1 - escapes) === CHAR.backslash) escapes++;
    if (escapes % 2 === 0) return quote + 1;
  }
}

function isMemberName(text: string, end: number): boolean {
  while (text[end] === " " || text[end] === "\t" || text[end] === "\n" || text[end] === "\r") end++;
  return text[end] === ":";
}
