import { appendFile, mkdir, readFile, stat, writeFile } from "node:fs/promises";
import { join } from "node:path";
import type { RuntimeEvent } from "#core/event-log/runtime-event.ts";
import { encodeRuntimeEventLine, parseRuntimeEventLog } from "../tee/runtime-event-line.ts";
import type { RuntimeEventLog } from "../tee/tee.ts";
import { withFileLock } from "./file-lock.ts";

/** The log in `directory` (spec/os.md 5.3): `/run/log/dstack` in a guest. */
export function openRuntimeEventLog(directory: string): RuntimeEventLog {
  const path = join(directory, "runtime_events.log");
  let cached: { readonly size: number; readonly events: readonly RuntimeEvent[] } | undefined;
  return {
    /** Parsed again only when the file grew: the agent asks for each quote. */
    async read() {
      const size = await stat(path).then((s) => s.size, (error) => {
        if (error.code === "ENOENT") return 0;
        throw error;
      });
      if (size === 0) return [];
      if (cached?.size !== size) {
        const text = await readFile(path, "utf8");
        cached = {
          size: new TextEncoder().encode(text).length,
          events: parseRuntimeEventLog(text),
        };
      }
      return cached.events;
    },
    async append(event) {
      if (event.version === 2) await writeFile(join(directory, "runtime_event_version"), "2");
      await appendFile(path, encodeRuntimeEventLine(event), { mode: 0o600 });
    },
    async exclusively(action) {
      await mkdir(directory, { recursive: true, mode: 0o755 });
      return await withFileLock(join(directory, "runtime_event.lock"), action);
    },
  };
}
