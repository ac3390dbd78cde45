import { BoundedMap } from "../collections/bounded-map.ts";
import type { FetchLike } from "./fetch-like.ts";
import { readResponse } from "./response-body.ts";

export interface CachingFetchOptions {
  readonly fetch: FetchLike;
  readonly now: () => Date;
  /** Asked again after so many milliseconds. */
  readonly maxAgeMs: number;
  /** Answers kept at most; those longest unused go first. */
  readonly maxEntries: number;
  /** The longest answer that is taken. */
  readonly maxBytes: number;
}

interface Entry {
  readonly fetchedAtMs: number;
  readonly body: Uint8Array;
}

/**
 * A fetch of public documents that keeps what was found, by URL. Failures are not kept, and neither is
 * anything of the answer but its body.
 */
export function cachingFetch(options: CachingFetchOptions): FetchLike {
  const entries = new BoundedMap<string, Entry>(options.maxEntries);
  return async (url, init) => {
    if (init.method !== "GET") return await options.fetch(url, init);
    const now = options.now().getTime();
    const known = entries.get(url);
    if (known && now - known.fetchedAtMs < options.maxAgeMs) return answer(known.body);
    const response = await options.fetch(url, init);
    if (response.status !== 200) return response;
    const body = await readResponse(response, options.maxBytes, new URL(url).host);
    entries.set(url, { fetchedAtMs: now, body });
    return answer(body);
  };
}

function answer(body: Uint8Array): Response {
  return new Response(body as Uint8Array<ArrayBuffer>);
}
