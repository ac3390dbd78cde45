import { AppError } from "../errors/app-error.ts";

const FORM =
  /^(\d{4})-(\d{2})-(\d{2})[Tt](\d{2}):(\d{2}):(\d{2})(?:\.\d{1,9})?([Zz]|[+-]\d{2}:\d{2})$/;

/**
 * An RFC 3339 time with its offset. Runtimes differ about dates that do not exist and about leap
 * seconds: those are refused. Throws `input/malformed`.
 */
export function parseRfc3339(text: string, field: string): Date {
  const [, year, month, day, hour, minute, second] = FORM.exec(text) ?? [];
  const time = new Date(year === undefined ? Number.NaN : text.toUpperCase());
  const date = new Date(Date.UTC(Number(year), Number(month) - 1, Number(day)));
  const exists = !Number.isNaN(time.getTime()) && date.getUTCMonth() === Number(month) - 1 &&
    Number(hour) < 24 && Number(minute) < 60 && Number(second) < 60;
  if (exists) return time;
  throw new AppError(
    "input/malformed",
    `Cannot parse ${field}: '${text.slice(0, 40)}' is not RFC 3339, such as 2026-03-01T12:00:00Z`,
  );
}
