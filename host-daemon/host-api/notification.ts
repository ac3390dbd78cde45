import { utf8 } from "#core/bytes/bytes.ts";
import { JsonObject } from "#core/encoding/json-object.ts";
import { parseStrictJson } from "#core/encoding/strict-json.ts";
import { AppError } from "#core/errors/app-error.ts";
import type { Cvm } from "../db/cvm-store.ts";

/** Larger payloads are dropped, yet answered as a success (spec/vmm.md section 5.1). */
export const MAX_PAYLOAD_BYTES = 4096;
const MAX_EVENT_NAME_LENGTH = 64;

/** What a notification changes; the guest chose every byte of it. */
export interface NotificationEffect {
  /** False: logged and forgotten. */
  readonly recorded: boolean;
  readonly known: boolean;
  readonly change: Partial<Cvm>;
  /** New content of shared/.instance_info. */
  readonly instanceInfo?: string;
}

const NOTHING: NotificationEffect = { recorded: false, known: false, change: {} };

export function applyNotification(event: string, payload: string): NotificationEffect {
  if (utf8(payload).length > MAX_PAYLOAD_BYTES || event.length > MAX_EVENT_NAME_LENGTH) {
    return NOTHING;
  }
  const known = (change: Partial<Cvm>) => ({ recorded: true, known: true, change });
  switch (event) {
    case "boot.progress":
      return known({ bootProgress: payload });
    case "boot.error":
      return known({ bootError: payload });
    case "shutdown.progress":
      // A guest that powers itself off does not want to be started again.
      return known({
        shutdownProgress: payload,
        ...(payload === "powering off" ? { started: false } : {}),
      });
    case "instance.info":
      return { ...known({ instanceId: readInstanceId(payload) }), instanceInfo: payload };
    default:
      return { recorded: true, known: false, change: {} };
  }
}

/** `{"instance_id_seed","instance_id","app_id"}` in hex, each at most 20 bytes. */
function readInstanceId(payload: string): string {
  const o = new JsonObject(parseStrictJson(utf8(payload), "instance info"), "instance info")
    .withoutNulls();
  for (const name of ["instance_id_seed", "instance_id", "app_id"]) {
    const text = o.string(name, "");
    if (!/^([0-9a-f]{40})?$/.test(text)) {
      throw new AppError("input/malformed", `Cannot parse instance info: ${name} is not 20 bytes`);
    }
  }
  return o.string("instance_id", "");
}
