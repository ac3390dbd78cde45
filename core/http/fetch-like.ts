/**
 * The part of `fetch` the programs need: what a port takes, so that an adapter can put its own TLS
 * rules, a unix socket or a test double behind it. `url` is absolute.
 */
export type FetchLike = (url: string, init: FetchLikeInit) => Promise<Response>;

export interface FetchLikeInit {
  readonly method: string;
  readonly headers: Readonly<Record<string, string>>;
  readonly body?: Uint8Array | string;
  readonly signal?: AbortSignal;
}
