import type { CvmEvent } from "../db/cvm-store.ts";

/** One step of a CVM's boot, in the guest's own words. */
export interface BootPhase {
  readonly name: string;
  readonly startedAtMs: number;
  /** Undefined while it lasts. */
  readonly seconds?: number;
}

/** Steps of the latest boot, from the start of QEMU to `done` or the end of the VM. */
export function bootPhases(events: readonly CvmEvent[]): BootPhase[] {
  const begin = events.findLastIndex(({ event }) => event === "vmm.start");
  const steps: { name: string; startedAtMs: number; endedAtMs?: number }[] = [];
  const end = (atMs: number) => {
    const last = steps.at(-1);
    if (last !== undefined) last.endedAtMs ??= atMs;
  };
  for (const { event, body, timestampMs } of events.slice(Math.max(0, begin))) {
    if (event === "vmm.start") {
      steps.push({ name: "starting", startedAtMs: timestampMs });
    } else if (event === "boot.progress" && steps.length > 0) {
      end(timestampMs);
      if (body !== "done") steps.push({ name: body, startedAtMs: timestampMs });
    } else if (["vmm.exited", "vmm.killed", "vmm.start.failed"].includes(event)) {
      end(timestampMs);
    }
  }
  return steps.map(({ name, startedAtMs, endedAtMs }) => ({
    name,
    startedAtMs,
    ...(endedAtMs === undefined ? {} : { seconds: (endedAtMs - startedAtMs) / 1000 }),
  }));
}
