import { AppError } from "#core/errors/app-error.ts";
import type { FetchLike } from "#core/http/fetch-like.ts";
import { deadline } from "./incoming-response.ts";

/**
 * A FetchLike over the runtime's own fetch: plain HTTP, and HTTPS under the system's roots. Redirects
 * are not followed. For any other trust use makeTlsFetch(). `timeoutMs` ends with the response's head.
 */
export function makeWebFetch(options: { readonly timeoutMs?: number } = {}): FetchLike {
  const { timeoutMs = 60_000 } = options;
  return async (url, init) => {
    const { host } = new URL(url);
    const total = deadline(init.signal, timeoutMs, `Request to ${host}`);
    try {
      return await fetch(url, {
        method: init.method,
        headers: { ...init.headers },
        ...init.body !== undefined &&
          { body: typeof init.body === "string" ? init.body : init.body.slice() },
        redirect: "manual",
        signal: total.signal,
      });
    } catch (cause) {
      if (total.signal.aborted) throw total.signal.reason;
      throw new AppError("upstream/unavailable", `Cannot reach ${host}`, { cause });
    } finally {
      total.clear();
    }
  };
}
