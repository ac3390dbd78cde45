import { AppError } from "../errors/app-error.ts";

const SUFFIX_FACTOR: Readonly<Record<string, number>> = {
  "": 1,
  k: 1024,
  m: 1024 ** 2,
  g: 1024 ** 3,
  t: 1024 ** 4,
};

/**
 * A size in bytes: a whole number, or text as a decimal with one of K M G T (1024-based, any case) or
 * as `0x` hex. Sizes past 2^53 - 1 are refused, as are the repeated suffixes the reference lets pass.
 */
export function parseByteSize(value: unknown, field: string): number {
  const refuse = (why: string) => new AppError("input/malformed", `Cannot parse ${field}: ${why}`);
  let bytes: number;
  if (typeof value === "number") {
    bytes = value;
  } else if (typeof value === "string") {
    const text = value.trim();
    const decimal = /^([0-9]+)([kmgt]?)$/i.exec(text);
    if (decimal !== null) bytes = Number(decimal[1]) * SUFFIX_FACTOR[decimal[2]!.toLowerCase()]!;
    else if (/^0x[0-9a-f]+$/i.test(text)) bytes = Number(text);
    else throw refuse("expected a number of bytes such as 536870912, 512M or 0x20000000");
  } else {
    throw refuse("expected a number or a string");
  }
  if (!Number.isInteger(bytes) || bytes < 0) throw refuse("must be a whole number of bytes");
  if (!Number.isSafeInteger(bytes)) throw refuse("too large");
  return bytes;
}
