import { AppError } from "#core/errors/app-error.ts";
import { toHex, utf8 } from "#core/bytes/bytes.ts";
import { type DataPlaneSettings, haproxyConfig, routeLua } from "./haproxy-config.ts";
import { type RuntimeSocket, runtimeSocket, type SendRuntime } from "./runtime-socket.ts";

export interface HaproxyProcess {
  readonly pid: number;
  readonly startTicks: string;
}

/** What runs now, as written beside the configuration. */
interface RunRecord extends HaproxyProcess {
  /** SHA-256 of configuration and script, hex. */
  readonly configDigest: string;
  /** Former processes that were finishing their connections when this one started. */
  readonly retiring: readonly HaproxyProcess[];
}

export interface CommandResult {
  readonly exitCode: number;
  readonly stdout: string;
  readonly stderr: string;
}

export interface HaproxyPorts {
  readonly run: (argv: readonly string[], timeoutMs: number) => Promise<CommandResult>;
  readonly readText: (path: string) => Promise<string | undefined>;
  /** Atomic, mode 0600. */
  readonly writeText: (path: string, text: string) => Promise<void>;
  readonly remove: (path: string) => Promise<void>;
  readonly identify: (pid: number) => Promise<HaproxyProcess | undefined>;
  /** Its arguments; empty when it has ended. */
  readonly commandLine: (pid: number) => Promise<readonly string[]>;
  readonly signal: (
    known: HaproxyProcess,
    signal: "SIGTERM" | "SIGKILL",
  ) => Promise<boolean>;
  readonly send: SendRuntime;
  /** Calls back once when the peer at the runtime socket goes away; returns how to stop. */
  readonly watch: (onClosed: () => void) => () => void;
  readonly sleep: (ms: number) => Promise<void>;
}

export interface HaproxyEvents {
  /**
   * Runs `start`, which starts a process with an empty map, fresh slots and the certificates on disk and
   * resolves with its pid. The process asks before `start` ends: nothing known of the one before may answer.
   */
  readonly launching: (start: () => Promise<number>) => Promise<void>;
  /** It was already serving, with whatever a former control plane told it. */
  readonly onAdopted: (pid: number) => Promise<void>;
  readonly onLost: (pid: number) => void;
  readonly onError: (error: unknown) => void;
}

/** Oldest version with every directive of our configuration. */
const MIN_VERSION = [2, 6] as const;
const START_TIMEOUT_MS = 15_000;
const STOP_TIMEOUT_MS = 5_000;
const RESTART_DELAYS_MS = [0, 200, 1_000, 5_000] as const;

export interface HaproxyBuild {
  /** e.g. `2.6.12-1+deb12u4`. */
  readonly version: string;
  readonly lua: boolean;
  readonly prometheus: boolean;
}

/** Reads `haproxy -vv`. Throws `input/unsupported` for a version or build that cannot serve. */
export function parseHaproxyBuild(text: string): HaproxyBuild {
  const version = /^HAProxy version (\S+)/m.exec(text)?.[1];
  const numbers = /^(\d+)\.(\d+)/.exec(version ?? "");
  if (version === undefined || numbers === null) {
    throw new AppError("input/unsupported", "Cannot read the version in the output of haproxy -vv");
  }
  const [major, minor] = [Number(numbers[1]), Number(numbers[2])];
  if (major < MIN_VERSION[0] || (major === MIN_VERSION[0] && minor < MIN_VERSION[1])) {
    throw new AppError("input/unsupported", `HAProxy ${version} is too old: need 2.6 or newer`);
  }
  const lua = /^Built with Lua version/m.test(text);
  if (!lua) throw new AppError("input/unsupported", `HAProxy ${version} is built without Lua`);
  return { version, lua, prometheus: /prometheus-exporter/.test(text) };
}

/**
 * Owns the HAProxy process. It runs as a daemon of its own, so that it keeps serving while the
 * control plane restarts; the next control plane adopts it, or hands its listeners over to a new
 * one when the configuration differs. One that dies is started again.
 */
export class Haproxy {
  readonly runtime: RuntimeSocket;
  readonly #ports: HaproxyPorts;
  readonly #settings: DataPlaneSettings;
  readonly #events: HaproxyEvents;
  readonly #binary: string;
  #current: HaproxyProcess | undefined;
  #unwatch: () => void = () => {};
  #stopping = false;
  #recovery: Promise<void> = Promise.resolve();

  constructor(
    binary: string,
    settings: DataPlaneSettings,
    ports: HaproxyPorts,
    events: HaproxyEvents,
  ) {
    this.#binary = binary;
    this.#settings = settings;
    this.#ports = ports;
    this.#events = events;
    this.runtime = runtimeSocket(ports.send);
  }

  get pid(): number | undefined {
    return this.#current?.pid;
  }

  /** Adopts the running process, replaces it without dropping a listener, or starts the first. */
  async start(): Promise<void> {
    const { paths } = this.#settings;
    const config = haproxyConfig(this.#settings);
    const lua = routeLua(paths, this.#settings.timeouts.connectMs);
    const configDigest = await sha256Hex(`${config}\0${lua}`);
    const running = await this.#recorded();
    const answers = running !== undefined && await this.#answers(running);
    if (answers && running.configDigest === configDigest) {
      this.#current = running;
      this.#watch();
      await this.#events.onAdopted(running.pid);
      return;
    }
    await this.#ports.writeText(paths.config, config);
    await this.#ports.writeText(paths.lua, lua);
    if (!answers) await this.#endStray(running);
    await this.#events.launching(() => this.#launch(configDigest, answers ? running : undefined));
  }

  /** Ends the process for good and removes what it leaves behind. */
  async stop(): Promise<void> {
    this.#stopping = true;
    this.#unwatch();
    await this.#recovery;
    this.#current = undefined;
    const recorded = await this.#recorded();
    for (const retiring of recorded?.retiring ?? []) await this.#end(retiring);
    await this.#endStray(recorded);
    const { paths } = this.#settings;
    const leftovers = [
      paths.record,
      paths.pid,
      paths.runtimeSocket,
      paths.tlsSocket,
      paths.h2Socket,
      paths.metricsSocket,
    ];
    for (const path of leftovers) await this.#ports.remove(path);
  }

  /** Lets go of the process without touching it: the control plane ends, the data plane goes on. */
  detach(): void {
    this.#stopping = true;
    this.#unwatch();
  }

  async #launch(configDigest: string, old: RunRecord | undefined): Promise<number> {
    const { paths } = this.#settings;
    // The map starts empty: what it held belongs to the process before.
    await this.#ports.writeText(paths.routeMap, "");
    const handover = old === undefined ? [] : ["-x", paths.runtimeSocket, "-sf", `${old.pid}`];
    const argv = [this.#binary, "-D", "-f", paths.config, "-p", paths.pid, ...handover];
    const { exitCode, stderr } = await this.#ports.run(argv, START_TIMEOUT_MS);
    if (exitCode !== 0) {
      throw new AppError("internal", `HAProxy does not start: ${lastLines(stderr)}`);
    }
    const pid = Number((await this.#ports.readText(paths.pid) ?? "").trim());
    const started = Number.isInteger(pid) && pid > 0 ? await this.#ports.identify(pid) : undefined;
    if (started === undefined) {
      throw new AppError("internal", "HAProxy ended right after its start");
    }
    this.#current = started;
    const retiring: HaproxyProcess[] = [];
    for (const former of old === undefined ? [] : [old, ...old.retiring]) {
      const alive = await this.#ports.identify(former.pid);
      if (alive?.startTicks === former.startTicks) retiring.push(alive);
    }
    const record: RunRecord = { ...started, configDigest, retiring };
    await this.#ports.writeText(paths.record, JSON.stringify(record));
    this.#watch();
    return pid;
  }

  #watch(): void {
    this.#unwatch();
    const watched = this.#current;
    this.#unwatch = this.#ports.watch(() => {
      if (this.#stopping || watched === undefined) return;
      this.#recovery = this.#recover(watched).catch(this.#events.onError);
    });
  }

  /** The runtime socket closed: either only that connection, or the process is gone. */
  async #recover(lost: HaproxyProcess): Promise<void> {
    const alive = await this.#ports.identify(lost.pid);
    if (alive?.startTicks === lost.startTicks) {
      await this.#ports.sleep(200);
      if (!this.#stopping) this.#watch();
      return;
    }
    this.#current = undefined;
    this.#events.onLost(lost.pid);
    for (let attempt = 0; !this.#stopping; attempt++) {
      await this.#ports.sleep(RESTART_DELAYS_MS[Math.min(attempt, RESTART_DELAYS_MS.length - 1)]!);
      try {
        if (!this.#stopping) await this.start();
        return;
      } catch (error) {
        this.#events.onError(error);
      }
    }
  }

  /** The process of the record, if it still runs. */
  async #recorded(): Promise<RunRecord | undefined> {
    const text = await this.#ports.readText(this.#settings.paths.record);
    const record = text === undefined ? undefined : parseRecord(text);
    const found = record === undefined ? undefined : await this.#ports.identify(record.pid);
    return found?.startTicks === record?.startTicks ? record : undefined;
  }

  async #answers(process: HaproxyProcess): Promise<boolean> {
    try {
      return (await this.runtime.query("show info")).includes(`\nPid: ${process.pid}\n`);
    } catch (error) {
      this.#events.onError(error);
      return false;
    }
  }

  /**
   * Ends a process that must not go on beside a new one: the kernel would share connections between
   * them. It is the recorded one or, when the record was lost, the one of the pid file.
   */
  async #endStray(recorded: HaproxyProcess | undefined): Promise<void> {
    if (recorded !== undefined) await this.#end(recorded);
    const { paths } = this.#settings;
    const pid = Number((await this.#ports.readText(paths.pid) ?? "").trim());
    const stray = Number.isInteger(pid) && pid > 0 ? await this.#ports.identify(pid) : undefined;
    if (stray === undefined) return;
    if ((await this.#ports.commandLine(pid)).includes(paths.config)) await this.#end(stray);
  }

  async #end(running: HaproxyProcess): Promise<void> {
    if (!await this.#ports.signal(running, "SIGTERM")) return;
    for (let waited = 0; waited < STOP_TIMEOUT_MS; waited += 20) {
      if ((await this.#ports.identify(running.pid))?.startTicks !== running.startTicks) return;
      await this.#ports.sleep(20);
    }
    await this.#ports.signal(running, "SIGKILL");
  }
}

function parseRecord(text: string): RunRecord | undefined {
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch {
    return undefined; // Half-written by a machine that lost power: as good as absent.
  }
  if (typeof value !== "object" || value === null) return undefined;
  const { pid, startTicks, configDigest, retiring } = value as Record<string, unknown>;
  return typeof pid === "number" && typeof startTicks === "string" &&
      typeof configDigest === "string" && Array.isArray(retiring)
    ? { pid, startTicks, configDigest, retiring: retiring as HaproxyProcess[] }
    : undefined;
}

async function sha256Hex(text: string): Promise<string> {
  return toHex(new Uint8Array(await crypto.subtle.digest("SHA-256", utf8(text) as BufferSource)));
}

function lastLines(text: string): string {
  return text.trim().split("\n").slice(-6).join(" | ");
}
