import { readFile } from "node:fs/promises";
import process from "node:process";

/** A process told apart from any later one with the same number. */
export interface ProcessIdentity {
  readonly pid: number;
  /** Clock ticks since boot at which it started (proc_pid_stat(5) field 22). */
  readonly startTicks: string;
}

/** The running process `pid`; undefined when there is none, or only a zombie. */
export async function identify(pid: number): Promise<ProcessIdentity | undefined> {
  let stat: string;
  try {
    stat = await readFile(`/proc/${pid}/stat`, "utf8");
  } catch (error) {
    if (isCode(error, "ENOENT") || isCode(error, "ESRCH")) return undefined;
    throw error;
  }
  // The command in parentheses may hold spaces and parentheses itself.
  const fields = stat.slice(stat.lastIndexOf(")") + 2).split(" ");
  const [state, startTicks] = [fields[0], fields[19]];
  return state === "Z" || state === "X" || startTicks === undefined
    ? undefined
    : { pid, startTicks };
}

/** Arguments of a process; empty when it has ended. */
export async function commandLine(pid: number): Promise<string[]> {
  try {
    return (await readFile(`/proc/${pid}/cmdline`, "utf8")).split("\0").slice(0, -1);
  } catch (error) {
    if (isCode(error, "ENOENT") || isCode(error, "ESRCH")) return [];
    throw error;
  }
}

export async function isRunning(known: ProcessIdentity): Promise<boolean> {
  return (await identify(known.pid))?.startTicks === known.startTicks;
}

/** Sends a signal unless the process has ended; false when it had. */
export async function signalProcess(
  known: ProcessIdentity,
  signal: "SIGTERM" | "SIGKILL" | "SIGUSR1",
): Promise<boolean> {
  if (!await isRunning(known)) return false;
  try {
    process.kill(known.pid, signal);
    return true;
  } catch (error) {
    if (isCode(error, "ESRCH")) return false;
    throw error;
  }
}

function isCode(error: unknown, code: string): boolean {
  return error instanceof Error && "code" in error && error.code === code;
}
