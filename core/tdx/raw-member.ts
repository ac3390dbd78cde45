import { endOfString } from "../encoding/strict-json.ts";

/**
 * The exact text of a member of a JSON object, as received: signatures cover it, so it must not be
 * re-serialised. `text` must be valid JSON without repeated names (`parseStrictJson` said so).
 * Undefined when the object has no such member.
 */
export function rawMember(text: string, name: string): string | undefined {
  let at = text.indexOf("{") + 1;
  while (at > 0) {
    at = skipSpace(text, at);
    if (text[at] !== '"') return undefined;
    const nameEnd = endOfString(text, at);
    const found: unknown = JSON.parse(text.slice(at, nameEnd));
    const start = skipSpace(text, skipSpace(text, nameEnd) + 1); // past the colon
    const end = endOfValue(text, start);
    if (found === name) return text.slice(start, end);
    const next = skipSpace(text, end);
    if (text[next] !== ",") return undefined;
    at = next + 1;
  }
  return undefined;
}

function skipSpace(text: string, at: number): number {
  while (at < text.length && " \t\r\n".includes(text[at]!)) at++;
  return at;
}

function endOfValue(text: string, start: number): number {
  let depth = 0;
  for (let at = start; at < text.length;) {
    const char = text[at]!;
    if (char === '"') at = endOfString(text, at);
    else {
      if (char === "{" || char === "[") depth++;
      if (char === "}" || char === "]") {
        if (depth === 0) return at;
        depth--;
      }
      if (char === "," && depth === 0) return at;
      at++;
    }
    const closed = depth === 0 && (char === '"' || char === "}" || char === "]");
    if (closed) return at;
  }
  return text.length;
}
