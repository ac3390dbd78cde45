import { utf8 } from "#core/bytes/bytes.ts";
import { AppError, errorChain } from "#core/errors/app-error.ts";
import type { FetchLike } from "#core/http/fetch-like.ts";
import type { Log } from "../ports.ts";
import type { SysConfig } from "./sys-config.ts";

/** The host drops larger bodies (spec/os.md 3.13); counted in bytes of the JSON body. */
const MAX_BODY_BYTES = 4096;
const TIMEOUT_MS = 10_000;

export type HostEvent = "boot.progress" | "boot.error" | "instance.info" | "shutdown.progress";

/** Tells the host how the boot goes. The host is not trusted and not needed: failures are logged only. */
export interface HostNotifier {
  /** Queues a notification; they arrive in this order. */
  notify(event: HostEvent, payload: string): void;
  /** Waits until everything queued was sent or failed. */
  flush(): Promise<void>;
}

export function createHostNotifier(
  config: Pick<SysConfig, "hostApiUrl" | "hostApiToken">,
  ports: { readonly fetch: FetchLike; readonly log: Log },
): HostNotifier {
  let last: Promise<void> = Promise.resolve();
  const send = async (event: HostEvent, payload: string) => {
    try {
      const response = await ports.fetch(`${config.hostApiUrl}/Notify?json`, {
        method: "POST",
        headers: {
          "content-type": "application/json",
          ...(config.hostApiToken && { authorization: `Bearer ${config.hostApiToken}` }),
        },
        body: notificationBody(event, payload),
        signal: AbortSignal.timeout(TIMEOUT_MS),
      });
      await response.arrayBuffer();
      if (!response.ok) throw new AppError("upstream/invalid", `Host answered ${response.status}`);
    } catch (error) {
      ports.log("host was not notified", { event, error: errorChain(error) });
    }
  };
  return {
    notify(event, payload) {
      if (config.hostApiUrl === undefined) return;
      last = last.then(() => send(event, payload));
    },
    flush: () => last,
  };
}

/** The JSON body, its payload cut so that the host does not drop the whole. */
export function notificationBody(event: HostEvent, payload: string): string {
  const encode = (text: string) => JSON.stringify({ event, payload: text });
  let body = encode(payload);
  for (let kept = payload.length; utf8(body).length > MAX_BODY_BYTES;) {
    kept = Math.floor(kept * 0.9);
    body = encode(`${payload.slice(0, kept)}…`);
  }
  return body;
}
