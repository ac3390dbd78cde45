import { z } from "zod";

const UNIT_MS = { ms: 1, s: 1000, m: 60_000, h: 3_600_000 } as const;

/** A configured duration: `500ms`, `30s`, `2m`, `1h`; read as milliseconds. */
export const duration = z.string().transform((text, ctx) => {
  const [, digits, unit] = /^(\d{1,9})(ms|s|m|h)$/.exec(text.trim()) ?? [];
  if (digits === undefined || unit === undefined) {
    ctx.addIssue("must be a duration such as 500ms, 30s or 2m");
    return z.NEVER;
  }
  return Number(digits) * UNIT_MS[unit as keyof typeof UNIT_MS];
});
