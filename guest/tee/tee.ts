import {
  labelAcpiEvents,
  type TdxEvent,
  toTdxEvent,
  withPreimage,
} from "#core/event-log/tdx-event.ts";
import { type RuntimeEvent, runtimeEventDigest } from "#core/event-log/runtime-event.ts";

/** Length of REPORTDATA in bytes. */
export const REPORT_DATA_LENGTH = 64;

/** The raw interface of one TEE: what the kernel, or the simulator, offers. */
export interface TeeDriver {
  readonly name: "tdx" | "sim";
  /** `reportData`: 64 bytes. Answers a DCAP quote. Callers do not overlap calls. */
  quote(reportData: Uint8Array): Promise<Uint8Array>;
  /** Extends RTMR3 with a 48-byte digest. */
  extend(digest: Uint8Array): Promise<void>;
  /** The boot event log as firmware left it (CCEL), parsed. */
  bootEvents(): Promise<readonly TdxEvent[]>;
}

/** Where the events that extended RTMR3 are kept; spec/os.md 5.3. */
export interface RuntimeEventLog {
  read(): Promise<readonly RuntimeEvent[]>;
  append(event: RuntimeEvent): Promise<void>;
  /** Runs `action` while no other process of the guest extends or appends. */
  exclusively<T>(action: () => Promise<T>): Promise<T>;
}

/** The TEE as the guest's programs use it (design section 5). */
export interface Tee {
  readonly simulated: boolean;
  quote(reportData: Uint8Array): Promise<Uint8Array>;
  /** Extends RTMR3 first, then logs: a crash in between fails verification, it never hides an event. */
  extend(event: RuntimeEvent): Promise<void>;
  runtimeEvents(): Promise<readonly RuntimeEvent[]>;
  /** Boot events and runtime events, in full. */
  eventLog(): Promise<readonly TdxEvent[]>;
}

export function createTee(driver: TeeDriver, log: RuntimeEventLog): Tee {
  const oneAtATime = createQueue();
  let bootEvents: Promise<readonly TdxEvent[]> | undefined;
  return {
    simulated: driver.name === "sim",
    quote(reportData) {
      if (reportData.length !== REPORT_DATA_LENGTH) {
        throw new TypeError(`Report data must be ${REPORT_DATA_LENGTH} bytes`);
      }
      return oneAtATime(() => driver.quote(reportData));
    },
    extend: (event) =>
      log.exclusively(async () => {
        await driver.extend(runtimeEventDigest(event));
        await log.append(event);
      }),
    runtimeEvents: () => log.read(),
    async eventLog() {
      bootEvents ??= driver.bootEvents().then(labelAcpiEvents);
      bootEvents.catch(() => (bootEvents = undefined));
      const runtime = (await log.read()).map((event) => withPreimage(toTdxEvent(event)));
      return [...await bootEvents, ...runtime];
    },
  };
}

/** Runs what it is given one after the other, in the order of the calls. */
export function createQueue(): <T>(action: () => Promise<T>) => Promise<T> {
  let last: Promise<unknown> = Promise.resolve();
  return (action) => {
    const next = last.then(action, action);
    last = next;
    return next;
  };
}
