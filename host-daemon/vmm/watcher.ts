import { errorChain } from "#core/errors/app-error.ts";
import { BootLogScanner } from "./boot-log.ts";
import type { Entry, Inventory } from "./inventory.ts";
import type { Launcher } from "./launcher.ts";
import type { HostFiles, VmRunner } from "./ports.ts";
import type { Vmm } from "./vmm.ts";

export interface WatcherPorts {
  readonly inventory: Inventory;
  readonly launcher: Launcher;
  readonly vmm: Vmm;
  readonly runner: VmRunner;
  readonly files: HostFiles;
  /** Unix milliseconds. */
  readonly now: () => number;
  readonly log: (message: string, facts: Readonly<Record<string, unknown>>) => void;
}

export interface WatcherOptions {
  readonly autoRestart: boolean;
  /** Seconds between two decisions about stopped VMs. */
  readonly restartInterval: number;
  /** `[cvm.log]`: a running VM's log larger than this is rotated; 0 for never. */
  readonly maxLogBytes: number;
  readonly maxLogBackups: number;
  readonly logCheckSeconds: number;
}

/** A VM that dies is seen within a second; QEMU's monitor usually tells sooner. */
export const WATCH_INTERVAL_MS = 500;
/** Serial output read in one go; the rest follows at the next turn. */
const MAX_SERIAL_CHUNK_BYTES = 256 * 1024;

/** Compares what should run with what does: adopts, notices deaths, reads serial logs, restarts. */
export class Watcher {
  readonly #ports: WatcherPorts;
  readonly #options: WatcherOptions;
  #timer: ReturnType<typeof setTimeout> | undefined;
  #lastRestartCheck = 0;
  #lastLogCheck = 0;
  #stopped = false;

  constructor(ports: WatcherPorts, options: WatcherOptions) {
    this.#ports = ports;
    this.#options = options;
  }

  /** Takes over what an earlier dstackd left running, then resumes removals and starts. */
  async adopt(): Promise<void> {
    const { inventory, vmm, runner, log } = this.#ports;
    for (const entry of inventory.all()) {
      const { run, cvm } = entry;
      if (run !== undefined && run.exitedAtMs === null) {
        if (runner.isAlive(run)) await this.#takeOver(entry);
        else await this.#died(entry);
      }
      if (cvm.removing) vmm.finishRemoval(entry);
      else if (cvm.started && !entry.running) {
        vmm.restart(entry).catch((error) =>
          log("CVM cannot be started", { cvm: cvm.id, error: errorChain(error) })
        );
      }
    }
  }

  run(): void {
    const turn = async () => {
      try {
        await this.turn();
      } catch (error) {
        this.#ports.log("Watching CVMs failed", { error: errorChain(error) });
      }
      if (!this.#stopped) this.#timer = setTimeout(turn, WATCH_INTERVAL_MS);
    };
    this.#timer = setTimeout(turn, WATCH_INTERVAL_MS);
  }

  stop(): void {
    this.#stopped = true;
    clearTimeout(this.#timer);
  }

  /** One look at every CVM. */
  async turn(): Promise<void> {
    const { inventory, launcher, runner, now } = this.#ports;
    const seconds = now() / 1000;
    const decide = this.#options.autoRestart &&
      seconds - this.#lastRestartCheck >= this.#options.restartInterval;
    if (decide) this.#lastRestartCheck = seconds;
    const { maxLogBytes, maxLogBackups, logCheckSeconds } = this.#options;
    const checkLogs = maxLogBytes > 0 && seconds - this.#lastLogCheck >= logCheckSeconds;
    if (checkLogs) this.#lastLogCheck = seconds;
    for (const entry of inventory.all()) {
      if (entry.running) {
        await this.#readSerial(entry);
        if (checkLogs) {
          const directory = launcher.workDirectory(entry.cvm.id);
          await directory.limitLogs(maxLogBytes, maxLogBackups, new Date(now()));
        }
        const dead = entry.run !== undefined && !runner.isAlive(entry.run);
        // A task in the queue is stopping it and tells about its end itself.
        if (dead && !entry.queue.busy) await entry.queue.run(() => this.#died(entry));
        else entry.budget.observeRunning(seconds);
      }
      if (decide && entry.cvm.started && !entry.running && !entry.cvm.removing) {
        await this.#considerRestart(entry, seconds);
      }
    }
  }

  async #takeOver(entry: Entry): Promise<void> {
    const { inventory, launcher, runner, log } = this.#ports;
    entry.running = true;
    const { id } = entry.cvm;
    try {
      entry.monitor = await runner.connectMonitor(launcher.workDirectory(id).monitorSocket);
    } catch (error) {
      // Without its monitor a VM can still be watched and killed.
      log("QEMU's monitor does not answer", { cvm: id, error: errorChain(error) });
    }
    await inventory.record(entry, "vmm.adopted", "");
    log("CVM adopted", { cvm: id, pid: entry.run?.pid });
  }

  async #died(entry: Entry): Promise<void> {
    await this.#readSerial(entry); // its last words
    await this.#ports.vmm.ended(entry);
  }

  async #readSerial(entry: Entry): Promise<void> {
    const { inventory, launcher, files, log } = this.#ports;
    entry.serial ??= { scanner: new BootLogScanner(), offset: 0, decoder: new TextDecoder() };
    const { serial } = entry;
    const path = launcher.workDirectory(entry.cvm.id).log("serial");
    const size = await files.sizeOf(path);
    if (size === serial.offset) return;
    if (size < serial.offset) serial.offset = 0; // rotated
    const chunk = await files.readFrom(path, serial.offset, MAX_SERIAL_CHUNK_BYTES);
    if (chunk.length === 0) return;
    serial.offset += chunk.length;
    const failure = serial.scanner.push(serial.decoder.decode(chunk, { stream: true }));
    if (failure === undefined) return;
    const text = `${failure.code}: ${failure.text}`;
    if (entry.cvm.bootError === text) return;
    await inventory.update(entry, { bootError: text });
    await inventory.record(entry, "boot.error", text);
    log("CVM reports a failed boot", { cvm: entry.cvm.id, error: text });
  }

  async #considerRestart(entry: Entry, seconds: number): Promise<void> {
    const { inventory, vmm, log } = this.#ports;
    const decision = entry.budget.observeStopped(seconds);
    if (decision.kind === "restart") {
      log("Restarting CVM", { cvm: entry.cvm.id, attempt: decision.attempt });
      vmm.restart(entry).catch(() => {}); // recorded by the start itself
    } else if (decision.kind === "exhausted") {
      const text = `Automatic restart stopped after ${decision.attempts} failed attempts`;
      await inventory.record(entry, "vmm.auto_restart.exhausted", text);
      log(text, { cvm: entry.cvm.id });
    }
  }
}
