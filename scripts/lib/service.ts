/**
 * Programs the demo leaves running: each in its own session, its output in a log file, found again by
 * pid and start time, so that a second run, or `--down`, never touches a process that is not ours.
 */
import { spawn } from "node:child_process";
import {
  closeSync,
  existsSync,
  mkdirSync,
  openSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  writeFileSync,
} from "node:fs";
import { join } from "node:path";
import process from "node:process";

export interface ServiceSpec {
  readonly name: string;
  readonly argv: readonly string[];
  /** Changes when the service must be restarted though its command is the same: its configuration. */
  readonly configuration: string;
  /** Resolves once the service answers; polled until then. */
  readonly ready: () => Promise<boolean>;
  readonly readyTimeoutMs?: number;
}

interface ServiceRecord {
  readonly pid: number;
  /** Clock ticks since boot, field 22 of /proc/<pid>/stat: with the pid it names one process for good. */
  readonly startTicks: string;
  readonly argv: readonly string[];
  readonly configuration: string;
}

export class Services {
  readonly #dir: string;

  constructor(dir: string) {
    this.#dir = dir;
    mkdirSync(dir, { recursive: true });
  }

  logPath(name: string): string {
    return join(this.#dir, `${name}.log`);
  }

  running(name: string): number | undefined {
    const record = this.#read(name);
    return record && startTicks(record.pid) === record.startTicks ? record.pid : undefined;
  }

  /** Starts the service, or leaves it alone when it runs with the same command and answers. */
  async start(spec: ServiceSpec): Promise<void> {
    const record = this.#read(spec.name);
    if (record && this.running(spec.name) !== undefined) {
      const same = JSON.stringify(record.argv) === JSON.stringify(spec.argv) &&
        record.configuration === spec.configuration;
      if (same && await answers(spec)) return;
      await this.stop(spec.name);
    }
    const log = openSync(this.logPath(spec.name), "a", 0o600);
    const child = spawn(spec.argv[0]!, spec.argv.slice(1), {
      detached: true,
      stdio: ["ignore", log, log],
    });
    closeSync(log);
    let exited: string | undefined;
    child.on("error", (error) => exited = error.message);
    child.on("exit", (code, signal) => exited = `exit ${code ?? signal}`);
    child.unref();
    if (child.pid !== undefined) {
      const ticks = startTicks(child.pid);
      if (ticks !== undefined) {
        this.#write(spec.name, {
          pid: child.pid,
          startTicks: ticks,
          argv: spec.argv,
          configuration: spec.configuration,
        });
      }
    }
    const deadlineMs = performance.now() + (spec.readyTimeoutMs ?? 30_000);
    while (!(await answers(spec))) {
      if (exited !== undefined || performance.now() > deadlineMs) {
        throw new Error(
          `${spec.name} ${
            exited === undefined ? "did not answer in time" : `ended (${exited})`
          }; ` +
            `the end of ${this.logPath(spec.name)}:\n${this.logTail(spec.name)}`,
        );
      }
      await delay(100);
    }
  }

  /** Ends the service's whole session: asked first, made to after `graceMs`. */
  async stop(name: string, graceMs = 10_000): Promise<void> {
    const pid = this.running(name);
    if (pid !== undefined) {
      signal(pid, "SIGTERM");
      const deadlineMs = performance.now() + graceMs;
      while (this.running(name) !== undefined && performance.now() < deadlineMs) await delay(50);
      if (this.running(name) !== undefined) signal(-pid, "SIGKILL");
    }
    rmSync(join(this.#dir, `${name}.json`), { force: true });
  }

  names(): string[] {
    return readdirSync(this.#dir).filter((file) => file.endsWith(".json"))
      .map((file) => file.slice(0, -".json".length));
  }

  logTail(name: string, lines = 15): string {
    const path = this.logPath(name);
    if (!existsSync(path)) return "";
    return readFileSync(path, "utf8").trimEnd().split("\n").slice(-lines).join("\n");
  }

  #read(name: string): ServiceRecord | undefined {
    const path = join(this.#dir, `${name}.json`);
    return existsSync(path) ? JSON.parse(readFileSync(path, "utf8")) as ServiceRecord : undefined;
  }

  #write(name: string, record: ServiceRecord): void {
    const path = join(this.#dir, `${name}.json`);
    writeFileSync(`${path}.new`, JSON.stringify(record));
    renameSync(`${path}.new`, path);
  }
}

export function delay(ms: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, ms));
}

function startTicks(pid: number): string | undefined {
  try {
    const stat = readFileSync(`/proc/${pid}/stat`, "utf8");
    const fields = stat.slice(stat.lastIndexOf(")") + 2).split(" ");
    return fields[0] === "Z" ? undefined : fields[19];
  } catch {
    return undefined; // no such process
  }
}

function signal(pid: number, name: NodeJS.Signals): void {
  try {
    process.kill(pid, name);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== "ESRCH") throw error;
  }
}

async function answers(spec: ServiceSpec): Promise<boolean> {
  try {
    return await spec.ready();
  } catch {
    return false; // refused or reset: not up yet
  }
}
