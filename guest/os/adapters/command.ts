import { spawn } from "node:child_process";
import { AppError } from "#core/errors/app-error.ts";

export interface CommandOptions {
  readonly cwd?: string;
  /** The whole environment; by default only PATH and the C locale. */
  readonly env?: Readonly<Record<string, string>>;
  readonly input?: string | Uint8Array;
  /** Where standard error goes as it comes; it is kept for the error message in any case. */
  readonly onStderr?: (text: string) => void;
}

/** What every build command sees: nothing of the caller's locale, zone or umask leaks into outputs. */
export const CLEAN_ENV: Readonly<Record<string, string>> = {
  PATH: "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
  LC_ALL: "C.UTF-8",
  TZ: "UTC",
  HOME: "/nonexistent",
};

const STDERR_KEPT = 4000;

/** Runs a program to its end and returns its standard output; a non-zero exit is an error. */
export function command(
  argv: readonly string[],
  options: CommandOptions = {},
): Promise<Uint8Array> {
  const [program, ...args] = argv;
  if (program === undefined) throw new TypeError("command needs a program");
  return new Promise((resolve, reject) => {
    const child = spawn(program, args, {
      ...(options.cwd === undefined ? {} : { cwd: options.cwd }),
      env: options.env ?? CLEAN_ENV,
      stdio: [options.input === undefined ? "ignore" : "pipe", "pipe", "pipe"],
    });
    const out: Uint8Array[] = [];
    let errors = "";
    child.stdout!.on("data", (chunk: Uint8Array) => out.push(chunk));
    child.stderr!.on("data", (chunk: Uint8Array) => {
      const text = new TextDecoder().decode(chunk);
      options.onStderr?.(text);
      errors = (errors + text).slice(-STDERR_KEPT);
    });
    child.on("error", (cause: NodeJS.ErrnoException) => {
      reject(
        cause.code === "ENOENT"
          ? new AppError("os-build/tool-missing", `Cannot run ${program}: it is not installed`, {
            cause,
          })
          : new AppError("os-build/command-failed", `Cannot run ${program}`, { cause }),
      );
    });
    child.on("close", (code, signal) => {
      if (code === 0) return resolve(concat(out));
      const how = signal === null ? `exit code ${code}` : `signal ${signal}`;
      const last = errors.trim();
      const full = /No space left on device/.test(errors);
      reject(
        new AppError(
          full ? "os-build/disk-full" : "os-build/command-failed",
          `${program} failed with ${how}${last === "" ? "" : `: ${last}`}`,
        ),
      );
    });
    if (options.input !== undefined) {
      child.stdin!.on("error", () => {}); // the exit code tells what an early close meant
      child.stdin!.end(options.input);
    }
  });
}

/** Like `command`, as text. */
export async function commandText(
  argv: readonly string[],
  options: CommandOptions = {},
): Promise<string> {
  return new TextDecoder().decode(await command(argv, options));
}

function concat(parts: readonly Uint8Array[]): Uint8Array {
  const whole = new Uint8Array(parts.reduce((sum, part) => sum + part.length, 0));
  let at = 0;
  for (const part of parts) {
    whole.set(part, at);
    at += part.length;
  }
  return whole;
}
