import { Buffer } from "node:buffer";
import { type ChildProcess, spawn } from "node:child_process";
import { closeSync, openSync } from "node:fs";
import process from "node:process";
import { createInterface } from "node:readline";
import { AppError } from "#core/errors/app-error.ts";
import { isErrno } from "./files.ts";

export interface RunOptions {
  /** Written to stdin; the place for secrets. */
  readonly input?: Uint8Array | string;
  /** The whole environment of the process. Default: that of this process. */
  readonly env?: Readonly<Record<string, string>>;
  readonly cwd?: string;
  /** The process is killed after this time. Default 60 s. */
  readonly timeoutMs?: number;
  /** Stdout and stderr may each be this long. Default 16 MiB. */
  readonly maxOutputBytes?: number;
  /** Exit codes that are not a failure. Default 0. */
  readonly okCodes?: readonly number[];
  readonly signal?: AbortSignal;
}

export interface RunResult {
  readonly code: number;
  readonly stdout: Uint8Array;
  readonly stderr: string;
}

/**
 * Runs a program to its end, without a shell. Throws `process/failed` when it cannot be started, ends
 * with another code than allowed, or overruns its time or output; what it wrote to stderr is the cause.
 */
export function run(argv: readonly string[], options: RunOptions = {}): Promise<RunResult> {
  const [program, ...args] = programOf(argv);
  const { timeoutMs = 60_000, maxOutputBytes = 16 << 20, okCodes = [0], signal } = options;
  return new Promise((resolve, reject) => {
    if (signal?.aborted) return reject(signal.reason);
    const child = spawn(program, args, {
      stdio: ["pipe", "pipe", "pipe"],
      ...options.env && { env: { ...options.env } },
      ...options.cwd !== undefined && { cwd: options.cwd },
    });
    let failure: unknown;
    const fail = (error: unknown) => {
      failure ??= error;
      child.kill("SIGKILL");
    };
    const timer = setTimeout(
      () => fail(new AppError("process/failed", `${program} did not end within ${timeoutMs} ms`)),
      timeoutMs,
    );
    const onAbort = () => fail(signal?.reason);
    signal?.addEventListener("abort", onAbort);
    const collect = (stream: NodeJS.ReadableStream) => {
      const chunks: Uint8Array[] = [];
      let length = 0;
      stream.on("data", (chunk: Uint8Array) => {
        length += chunk.length;
        if (length <= maxOutputBytes) chunks.push(chunk);
        else fail(new AppError("process/failed", `${program} wrote over ${maxOutputBytes} bytes`));
      });
      return () => new Uint8Array(Buffer.concat(chunks));
    };
    const stdout = collect(child.stdout);
    const stderr = collect(child.stderr);
    const settle = () => {
      clearTimeout(timer);
      signal?.removeEventListener("abort", onAbort);
    };
    child.on("error", (cause) => {
      settle();
      reject(new AppError("process/failed", `Cannot run ${program}`, { cause }));
    });
    child.on("close", (code, killedBy) => {
      settle();
      const stderrText = new TextDecoder().decode(stderr());
      if (failure !== undefined) return reject(failure);
      if (code !== null && okCodes.includes(code)) {
        return resolve({ code, stdout: stdout(), stderr: stderrText });
      }
      const how = killedBy === null ? `with exit code ${code}` : `by ${killedBy}`;
      reject(
        new AppError("process/failed", `${program} ended ${how}`, {
          cause: new Error(stderrText.trim().slice(-4000)),
        }),
      );
    });
    // A program that ends without reading its input is judged by its exit code.
    child.stdin.on("error", () => {});
    child.stdin.end(options.input);
  });
}

export interface SpawnOptions {
  readonly env?: Readonly<Record<string, string>>;
  readonly cwd?: string;
  /** Stdout and stderr are appended to this file. */
  readonly logFile?: string;
  /** Called for each line of stdout and stderr, when there is no log file. */
  readonly onLine?: (line: string) => void;
  /** A session of its own: the process outlives this one. */
  readonly detached?: boolean;
}

export interface ProcessExit {
  readonly code: number | null;
  readonly signal: string | null;
}

export interface RunningProcess {
  readonly pid: number;
  readonly exited: Promise<ProcessExit>;
  kill(signal: NodeJS.Signals): void;
  /** SIGTERM, then SIGKILL after `graceMs`. Resolves when the process is gone. */
  stop(graceMs?: number): Promise<ProcessExit>;
}

/** Starts a long-running program, without a shell. Throws `process/failed` when it cannot be started. */
export async function startProcess(
  argv: readonly string[],
  options: SpawnOptions = {},
): Promise<RunningProcess> {
  const [program, ...args] = programOf(argv);
  const log = options.logFile === undefined ? undefined : openSync(options.logFile, "a", 0o600);
  let child: ChildProcess;
  try {
    const output = log ?? (options.onLine ? "pipe" : "ignore");
    child = spawn(program, args, {
      stdio: ["ignore", output, output],
      detached: options.detached ?? false,
      ...options.env && { env: { ...options.env } },
      ...options.cwd !== undefined && { cwd: options.cwd },
    });
  } finally {
    if (log !== undefined) closeSync(log);
  }
  const exited = new Promise<ProcessExit>((resolve) => {
    child.on("exit", (code, signal) => resolve({ code, signal }));
  });
  await new Promise<void>((resolve, reject) => {
    child.once("spawn", resolve);
    child.once("error", (cause) => {
      reject(new AppError("process/failed", `Cannot run ${program}`, { cause }));
    });
  });
  for (const stream of [child.stdout, child.stderr]) {
    if (stream && options.onLine) createInterface(stream).on("line", options.onLine);
  }
  if (options.detached) child.unref();
  // Not child.kill(): on Deno it sends one signal and no second.
  const kill = (signal: NodeJS.Signals) => {
    if (child.exitCode !== null || child.signalCode !== null) return;
    try {
      process.kill(child.pid!, signal);
    } catch (error) {
      if (!isErrno(error, "ESRCH")) throw error;
    }
  };
  return {
    pid: child.pid!,
    exited,
    kill,
    async stop(graceMs = 10_000) {
      kill("SIGTERM");
      const timer = setTimeout(() => kill("SIGKILL"), graceMs);
      try {
        return await exited;
      } finally {
        clearTimeout(timer);
      }
    },
  };
}

export interface KeepRunningOptions extends SpawnOptions {
  /** Wait before a restart; doubled up to a minute while the program keeps ending. Default 1 s. */
  readonly restartDelayMs?: number;
  readonly onExit?: (exit: ProcessExit | { readonly error: unknown }) => void;
}

/** Starts a program and starts it again whenever it ends, until stop(). */
export function keepRunning(
  argv: readonly string[],
  options: KeepRunningOptions = {},
): { current(): RunningProcess | undefined; stop(graceMs?: number): Promise<void> } {
  const firstDelay = options.restartDelayMs ?? 1000;
  const stopping = Promise.withResolvers<void>();
  let stopped = false;
  let running: RunningProcess | undefined;
  const loop = async () => {
    for (let delay = firstDelay; !stopped;) {
      const startedAt = performance.now();
      try {
        running = await startProcess(argv, options);
        if (stopped) await running.stop();
        options.onExit?.(await running.exited);
      } catch (error) {
        options.onExit?.({ error });
      }
      running = undefined;
      if (performance.now() - startedAt > 60_000) delay = firstDelay;
      let timer: ReturnType<typeof setTimeout> | undefined;
      const waited = new Promise<void>((resolve) => timer = setTimeout(resolve, delay));
      if (!stopped) await Promise.race([waited, stopping.promise]);
      clearTimeout(timer);
      delay = Math.min(delay * 2, 60_000);
    }
  };
  const ended = loop();
  return {
    current: () => running,
    async stop(graceMs) {
      stopped = true;
      stopping.resolve();
      await running?.stop(graceMs);
      await ended;
    },
  };
}

function programOf(argv: readonly string[]): readonly [string, ...string[]] {
  const [program, ...args] = argv;
  if (program === undefined || program === "") throw new TypeError("No program to run");
  return [program, ...args];
}
