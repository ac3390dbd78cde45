import { AppError } from "../errors/app-error.ts";
import type { FetchLike } from "./fetch-like.ts";
import { readResponse } from "./response-body.ts";

export interface DocumentSource {
  readonly fetch: FetchLike;
  /** Who answers, for people: `AMD's key service`. */
  readonly name: string;
  readonly timeoutMs: number;
  readonly maxBytes: number;
}

/** Gets one document; undefined for 404. Throws `upstream/unavailable` or `upstream/invalid`. */
export async function findDocument(
  url: string,
  source: DocumentSource,
): Promise<Uint8Array | undefined> {
  const { name, timeoutMs, maxBytes } = source;
  let response: Response;
  try {
    const signal = AbortSignal.timeout(timeoutMs);
    response = await source.fetch(url, { method: "GET", headers: {}, signal });
  } catch (cause) {
    throw new AppError("upstream/unavailable", `${name} cannot be reached at ${url}`, { cause });
  }
  const body = await readResponse(response, maxBytes, name);
  if (response.status === 404) return undefined;
  if (response.status === 200) return body;
  throw new AppError("upstream/unavailable", `${name} answered ${response.status} for ${url}`);
}
