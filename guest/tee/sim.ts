import { toHex } from "#core/bytes/bytes.ts";
import { JsonObject } from "#core/encoding/json-object.ts";
import { AppError } from "#core/errors/app-error.ts";
import type { TdxEvent } from "#core/event-log/tdx-event.ts";
import type { TeeDriver } from "./tee.ts";

/** The largest quote and event log the simulator may answer with, in bytes. */
const MAX_ANSWER_BYTES = 1024 * 1024;
const TIMEOUT_MS = 30_000;

export interface SimulatedTeeOptions {
  /** Origin of the Host API, such as `http://10.0.2.2:12000`. */
  readonly origin: string;
  readonly token: string;
  readonly fetch: (url: string, init: RequestInit) => Promise<Response>;
  readonly parseBootLog: (ccel: Uint8Array) => readonly TdxEvent[];
}

/**
 * The TEE that dstackd plays for machines without one (design section 5). Development images only:
 * what it says is worth as much as the host is trusted.
 */
export function createSimulatedTee(options: SimulatedTeeOptions): TeeDriver {
  async function call(method: "GET" | "POST", path: string, body?: unknown): Promise<Uint8Array> {
    const url = `${options.origin}/v1/tee/${path}`;
    const response = await options.fetch(url, {
      method,
      headers: {
        authorization: `Bearer ${options.token}`,
        ...(body === undefined ? {} : { "content-type": "application/json" }),
      },
      ...(body === undefined ? {} : { body: JSON.stringify(body) }),
      signal: AbortSignal.timeout(TIMEOUT_MS),
    }).catch((cause) => {
      throw new AppError("guest/tee", `Simulated TEE at ${options.origin} cannot be reached`, {
        cause,
      });
    });
    const answer = new Uint8Array(await response.arrayBuffer());
    if (!response.ok) {
      const why = new TextDecoder().decode(answer.subarray(0, 300));
      throw new AppError("guest/tee", `Simulated TEE refused ${path}: ${response.status} ${why}`);
    }
    if (answer.length > MAX_ANSWER_BYTES) {
      throw new AppError("guest/tee", `Simulated TEE answered ${path} with ${answer.length} bytes`);
    }
    return answer;
  }
  return {
    name: "sim",
    async quote(reportData) {
      const answer = await call("POST", "quote", { report_data: toHex(reportData) });
      const json = JSON.parse(new TextDecoder().decode(answer));
      return new JsonObject(json, "simulated quote").hex("quote", undefined);
    },
    async extend(digest) {
      await call("POST", "extend", { index: 3, digest: toHex(digest) });
    },
    async bootEvents() {
      return options.parseBootLog(await call("GET", "ccel"));
    },
  };
}
