import { AppError } from "#core/errors/app-error.ts";

/** Parameters of `/logs/<container>` (guest-agent.md 6.3). */
export interface LogQuery {
  /** Unix seconds; 0 for unbounded. */
  readonly since: number;
  readonly until: number;
  readonly follow: boolean;
  /** Text with replacement characters instead of base64. */
  readonly text: boolean;
  /** The data alone, without a JSON line around it. */
  readonly bare: boolean;
  readonly timestamps: boolean;
  readonly ansi: boolean;
  /** A number of lines, or `all`. */
  readonly tail: string;
}

const UNIT_SECONDS: Readonly<Record<string, number>> = { s: 1, m: 60, h: 3600, d: 86400 };
const MAX_TAIL = 100_000;

/** A flag that is neither yes nor no: the one fault the reference answers 422 for. */
export class InvalidFlagError extends Error {}

export function parseLogQuery(query: URLSearchParams, now: Date): LogQuery {
  return {
    since: parseTime(query, "since", now),
    until: parseTime(query, "until", now),
    follow: parseFlag(query, "follow"),
    text: parseFlag(query, "text"),
    bare: parseFlag(query, "bare"),
    timestamps: parseFlag(query, "timestamps"),
    ansi: parseFlag(query, "ansi"),
    tail: parseTail(query.get("tail") ?? "1000"),
  };
}

/** Digits are unix seconds, `<n>s|m|h|d` is so long ago. */
function parseTime(query: URLSearchParams, name: "since" | "until", now: Date): number {
  const text = query.get(name) ?? "";
  if (text === "") return 0;
  const match = /^([0-9]{1,12})([smhd]?)$/.exec(text);
  if (match === null) throw new AppError("input/malformed", `Invalid ${name}`);
  const amount = Number(match[1]);
  const unit = UNIT_SECONDS[match[2]!];
  if (unit === undefined) return amount;
  return Math.max(0, Math.floor(now.getTime() / 1000) - amount * unit);
}

function parseFlag(query: URLSearchParams, name: string): boolean {
  const value = query.get(name);
  if (value === null || ["false", "off", "no"].includes(value)) return false;
  if (["", "true", "on", "yes"].includes(value)) return true;
  throw new InvalidFlagError(`Invalid ${name}`);
}

function parseTail(text: string): string {
  if (text === "all") return text;
  if (!/^[0-9]{1,9}$/.test(text)) throw new AppError("input/malformed", "Invalid tail");
  return String(Math.min(Number(text), MAX_TAIL));
}
