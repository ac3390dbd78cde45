import { AsyncLocalStorage } from "node:async_hooks";
import { writeSync } from "node:fs";
import { configure, getLevelFilter, type LogLevel, type LogRecord } from "@logtape/logtape";
import { AppError, errorChain } from "#core/errors/app-error.ts";

export interface LoggingOptions {
  /** Name of the program, in every line: `kms`. */
  readonly program: string;
  /** Default `info`. */
  readonly level?: LogLevel;
  /** Takes one line, newline included. Default: stderr. */
  readonly write?: (line: string) => void;
}

/**
 * Sends the logs of this process to stderr as JSON lines: `ts`, `level`, `program`, `logger`, `msg`,
 * then the fields of the record and those of the surrounding withContext() (trace, app and instance
 * ids). Fields whose name says they hold a secret are not written.
 */
export async function configureLogging(options: LoggingOptions): Promise<void> {
  const write = options.write ?? ((line: string) => void writeSync(2, line));
  const level = options.level ?? "info";
  await configure({
    reset: true,
    contextLocalStorage: new AsyncLocalStorage(),
    sinks: { lines: (record) => write(`${formatRecord(record, options.program)}\n`) },
    filters: { level: getLevelFilter(level) },
    loggers: [
      { category: [], sinks: ["lines"], filters: ["level"] },
      { category: ["logtape", "meta"], sinks: ["lines"], lowestLevel: "warning" },
    ],
  });
}

const SECRET_NAME = /secret|password|passphrase|token|private_?key|authorization|cookie|^psk$/i;
const MAX_FIELD_LENGTH = 8192;

function formatRecord(record: LogRecord, program: string): string {
  const line: Record<string, unknown> = {
    ts: new Date(record.timestamp).toISOString(),
    level: record.level,
    program,
    logger: record.category.join("."),
    msg: record.message.map((part, i) => i % 2 === 0 ? part : inline(part)).join(""),
  };
  for (const [name, value] of Object.entries(record.properties)) {
    line[name in line ? `${name}_` : name] = SECRET_NAME.test(name) ? "[redacted]" : value;
  }
  return JSON.stringify(line, jsonField);
}

function inline(value: unknown): string {
  if (typeof value === "string") return value;
  if (value instanceof Error) return errorChain(value);
  return JSON.stringify(value, jsonField) ?? String(value);
}

/** Errors with their causes, bytes as hex, secrets by name left out at any depth. */
function jsonField(name: string, value: unknown): unknown {
  if (value === undefined || value === null) return value;
  if (name !== "" && SECRET_NAME.test(name)) return "[redacted]";
  if (value instanceof Error) {
    const code = value instanceof AppError ? { code: value.code } : {};
    return { name: value.name, ...code, message: errorChain(value), stack: value.stack };
  }
  if (value instanceof Uint8Array) {
    const hex = Array.from(value.subarray(0, 64), (byte) => byte.toString(16).padStart(2, "0"));
    return value.length > 64 ? `${hex.join("")}… (${value.length} bytes)` : hex.join("");
  }
  if (typeof value === "bigint") return value.toString();
  if (typeof value === "string" && value.length > MAX_FIELD_LENGTH) {
    return `${value.slice(0, MAX_FIELD_LENGTH)}… (${value.length} characters)`;
  }
  return value;
}
