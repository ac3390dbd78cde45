import { AppError } from "#core/errors/app-error.ts";
import { equalBytes, utf8 } from "#core/bytes/bytes.ts";
import { sha256 } from "@noble/hashes/sha2.js";
import type { Cvm, CvmEvent, CvmRun, CvmStore } from "../db/cvm-store.ts";
import type { QmpClient } from "../qemu/qmp.ts";
import type { BootLogScanner } from "./boot-log.ts";
import { RestartBudget, type RestartPolicy } from "./restart-budget.ts";
import { SerialQueue } from "./serial-queue.ts";

/** A CVM as this process knows it: its row, its last process and what is only kept in memory. */
export interface Entry {
  cvm: Cvm;
  run: CvmRun | undefined;
  /** Whether the process of `run` lives; kept true by the watcher, within a second. */
  running: boolean;
  monitor: QmpClient | undefined;
  readonly budget: RestartBudget;
  /** Life cycle operations on one CVM run one after another. */
  readonly queue: SerialQueue;
  /** Serial log of the current boot: how far it was read and what it revealed. */
  serial: { scanner: BootLogScanner; offset: number; decoder: TextDecoder } | undefined;
}

export type CvmListener = (event: CvmEvent) => void;

/** All CVMs by id. Rows are the truth; every change is written before it is visible here. */
export class Inventory {
  readonly #store: CvmStore;
  readonly #restartPolicy: RestartPolicy;
  readonly #now: () => number;
  readonly #entries = new Map<string, Entry>();
  readonly #listeners = new Set<CvmListener>();

  /** `now` in Unix milliseconds. */
  constructor(store: CvmStore, restartPolicy: RestartPolicy, now: () => number) {
    this.#store = store;
    this.#restartPolicy = restartPolicy;
    this.#now = now;
  }

  async load(): Promise<void> {
    const runs = new Map((await this.#store.allRuns()).map((run) => [run.cvmId, run]));
    for (const cvm of await this.#store.allCvms()) {
      this.#entries.set(cvm.id, this.#entry(cvm, runs.get(cvm.id)));
    }
  }

  async add(cvm: Cvm): Promise<Entry> {
    await this.#store.insertCvm(cvm);
    const entry = this.#entry(cvm, undefined);
    this.#entries.set(cvm.id, entry);
    return entry;
  }

  /** Oldest first. */
  all(): Entry[] {
    return [...this.#entries.values()];
  }

  find(id: string): Entry | undefined {
    return this.#entries.get(id);
  }

  /** Throws `cvm/not-found`. */
  require(id: string): Entry {
    const entry = this.#entries.get(id);
    if (entry === undefined) throw new AppError("cvm/not-found", "VM not found");
    return entry;
  }

  /**
   * The CVM a Host API bearer token belongs to. Compares digests of equal length with every token, so
   * that neither the time nor the place of a mismatch says anything about a token.
   */
  findByHostApiToken(token: string): Entry | undefined {
    const digest = sha256(utf8(token));
    let found: Entry | undefined;
    for (const entry of this.#entries.values()) {
      if (equalBytes(sha256(utf8(entry.cvm.hostApiToken)), digest)) found = entry;
    }
    return found;
  }

  async update(entry: Entry, change: Partial<Omit<Cvm, "id">>): Promise<void> {
    await this.#store.updateCvm(entry.cvm.id, change);
    entry.cvm = { ...entry.cvm, ...change };
  }

  async beginRun(entry: Entry, run: CvmRun): Promise<void> {
    await this.#store.saveRun(run);
    entry.run = run;
    entry.running = true;
  }

  async endRun(entry: Entry): Promise<void> {
    const exitedAtMs = this.#now();
    entry.running = false;
    entry.monitor?.close();
    entry.monitor = undefined;
    if (entry.run === undefined || entry.run.exitedAtMs !== null) return;
    await this.#store.endRun(entry.cvm.id, exitedAtMs);
    entry.run = { ...entry.run, exitedAtMs };
  }

  async remove(entry: Entry): Promise<void> {
    await this.#store.deleteCvm(entry.cvm.id);
    this.#entries.delete(entry.cvm.id);
  }

  /** Remembers an event and tells whoever listens. */
  async record(entry: Entry, event: string, body: string): Promise<void> {
    const row = await this.#store.addEvent({
      cvmId: entry.cvm.id,
      event,
      body,
      timestampMs: this.#now(),
    });
    for (const listener of this.#listeners) listener(row);
  }

  /** Returns the function that ends the subscription. */
  subscribe(listener: CvmListener): () => void {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }

  #entry(cvm: Cvm, run: CvmRun | undefined): Entry {
    return {
      cvm,
      run,
      running: false,
      monitor: undefined,
      budget: new RestartBudget(this.#restartPolicy),
      queue: new SerialQueue(),
      serial: undefined,
    };
  }
}
