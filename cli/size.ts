import { AppError } from "#core/errors/app-error.ts";

const UNIT_MIB: Readonly<Record<string, number>> = { M: 1, G: 1024, T: 1024 * 1024 };

/** `512M`, `2G`, `1T` (a trailing `B` or `iB` is fine; no unit means MiB) as MiB. */
export function parseMib(text: string, option: string): number {
  const match = /^(\d{1,9})\s*([MGT])?(?:i?B)?$/i.exec(text.trim());
  const mib = match ? Number(match[1]) * UNIT_MIB[(match[2] ?? "M").toUpperCase()]! : 0;
  if (mib < 1) {
    throw new AppError(
      "input/malformed",
      `${option} takes a size such as 512M or 2G, not '${text}'`,
    );
  }
  return mib;
}

/** The same in whole GiB; `20` alone means GiB. */
export function parseGib(text: string, option: string): number {
  const mib = /^\d+$/.test(text.trim()) ? parseMib(`${text}G`, option) : parseMib(text, option);
  if (mib % 1024 !== 0) {
    throw new AppError("input/malformed", `${option} takes whole GiB, not '${text}'`);
  }
  return mib / 1024;
}

/** Bytes: a size with a unit, or a number of bytes, also in hex. */
export function parseBytes(text: string, option: string): number {
  const bytes = /^(0x[0-9a-f]{1,13}|\d{1,16})$/i.test(text.trim())
    ? Number(text)
    : parseMib(text, option) * 2 ** 20;
  if (Number.isSafeInteger(bytes)) return bytes;
  throw new AppError("input/malformed", `${option} takes a size such as 16T, not '${text}'`);
}
