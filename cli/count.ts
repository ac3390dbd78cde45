import { AppError } from "#core/errors/app-error.ts";

/** A whole number from 1 on, as options take it. Throws `input/malformed`. */
export function parseCount(text: string, option: string): number {
  if (/^[1-9]\d{0,8}$/.test(text.trim())) return Number(text);
  throw new AppError("input/malformed", `${option} takes a whole number from 1 on, not '${text}'`);
}

/** A whole number from 0 on. Throws `input/malformed`. */
export function parseWhole(text: string, option: string): number {
  if (/^\d{1,9}$/.test(text.trim())) return Number(text);
  throw new AppError("input/malformed", `${option} takes a whole number, not '${text}'`);
}
