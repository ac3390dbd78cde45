import { AppError } from "#core/errors/app-error.ts";
import type { TdxEvent } from "#core/event-log/tdx-event.ts";
import type { TeeDriver } from "./tee.ts";

const TSM_ENTRY = "/sys/kernel/config/tsm/report/com.intel.dcap";
const RTMR3 = "/sys/devices/virtual/misc/tdx_guest/measurements/rtmr3:sha384";
const CCEL = "/sys/firmware/acpi/tables/data/CCEL";

/** Exclusive bounds of a DCAP quote in bytes (spec/os.md 5.2). */
const MIN_QUOTE_BYTES = 1020;
const MAX_QUOTE_BYTES = 8192;

const BUSY_TRIES = 3;
const BUSY_WAIT_MS = 10_000;
const GENERATION_POLL_MS = 10;
const GENERATION_WAIT_MS = 5_000;

/** The files behind the TSM report and measurement interfaces of Linux, 6.16 or later. */
export interface TsmFiles {
  makeDirectory(path: string): Promise<void>;
  readText(path: string): Promise<string>;
  /** Reads a binary attribute in one go; refuses more than `maxBytes`. */
  readBytes(path: string, maxBytes: number): Promise<Uint8Array>;
  /** Writes a binary attribute in one go: open, one write, close. */
  writeBytes(path: string, data: Uint8Array): Promise<void>;
  /** Runs `action` while this process holds the advisory lock of `path`. */
  withLock<T>(path: string, action: () => Promise<T>): Promise<T>;
}

export interface TdxOptions {
  readonly files: TsmFiles;
  readonly sleep: (ms: number) => Promise<void>;
  readonly parseBootLog: (ccel: Uint8Array) => readonly TdxEvent[];
}

/** Intel TDX through plain kernel files: configfs-tsm for quotes, sysfs measurements for RTMR3. */
export function createTdxTee({ files, sleep, parseBootLog }: TdxOptions): TeeDriver {
  async function generation(): Promise<number> {
    const text = (await files.readText(`${TSM_ENTRY}/generation`)).trim();
    if (!/^[0-9]{1,15}$/.test(text)) throw new AppError("guest/tee", "TSM generation is no number");
    return Number(text);
  }

  async function retryBusy<T>(what: string, action: () => Promise<T>): Promise<T> {
    for (let attempt = 1;; attempt++) {
      try {
        return await action();
      } catch (cause) {
        if (!isBusy(cause) || attempt === BUSY_TRIES) {
          throw new AppError("guest/tee", `Cannot ${what}`, { cause });
        }
        await sleep(BUSY_WAIT_MS);
      }
    }
  }

  async function quoteLocked(reportData: Uint8Array): Promise<Uint8Array> {
    const provider = (await files.readText(`${TSM_ENTRY}/provider`)).trim();
    if (!provider.startsWith("tdx_guest")) {
      throw new AppError("guest/tee", `The TSM provider is ${provider}, not tdx_guest`);
    }
    const before = await generation();
    await retryBusy("ask for a quote", () => files.writeBytes(`${TSM_ENTRY}/inblob`, reportData));
    let now = await generation();
    for (let waited = 0; now === before && waited < GENERATION_WAIT_MS;) {
      await sleep(GENERATION_POLL_MS);
      waited += GENERATION_POLL_MS;
      now = await generation();
    }
    if (now !== before + 1) throw interfered();
    const quote = await retryBusy(
      "read the quote",
      () => files.readBytes(`${TSM_ENTRY}/outblob`, MAX_QUOTE_BYTES),
    );
    if (await generation() !== now) throw interfered();
    if (quote.length <= MIN_QUOTE_BYTES || quote.length >= MAX_QUOTE_BYTES) {
      throw new AppError("guest/tee", `The quote has ${quote.length} bytes`);
    }
    return quote;
  }

  let entryExists = false;
  return {
    name: "tdx",
    async quote(reportData) {
      if (!entryExists) await files.makeDirectory(TSM_ENTRY);
      entryExists = true;
      return files.withLock(`${TSM_ENTRY}/inblob`, () => quoteLocked(reportData));
    },
    async extend(digest) {
      if (digest.length !== 48) throw new TypeError("RTMR3 is extended with 48 bytes");
      try {
        await files.writeBytes(RTMR3, digest);
      } catch (cause) {
        throw new AppError("guest/tee", "Cannot extend RTMR3", { cause });
      }
    },
    async bootEvents() {
      return parseBootLog(await files.readBytes(CCEL, 1024 * 1024));
    },
  };
}

function interfered(): AppError {
  return new AppError("guest/tee", "Another request for a quote interfered");
}

function isBusy(error: unknown): boolean {
  const code = (error as { code?: unknown } | null)?.code;
  return code === "EBUSY" || code === "EINTR" || code === "ETIMEDOUT";
}
