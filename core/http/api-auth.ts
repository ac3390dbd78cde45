import { sha256 } from "@noble/hashes/sha2.js";
import type { MiddlewareHandler } from "hono";
import { equalBytes, fromBase64, fromUtf8, utf8 } from "../bytes/bytes.ts";
import { AppError } from "../errors/app-error.ts";

export interface ApiAuthOptions {
  /** Accepted tokens. Empty ones are dropped; with none left every request is refused. */
  readonly tokens: readonly string[];
  /** Named in WWW-Authenticate: `dstack-vmm API`. */
  readonly realm: string;
  /** Whether a user's password is right, for Basic; beside the tokens. */
  readonly password?: (user: string, password: string) => Promise<boolean>;
  /** Whether GET may carry the token as `?token=`. */
  readonly queryToken: boolean;
}

/**
 * Token authentication of operator interfaces (spec vmm.md section 2.1, kms.md section 2.2), in this
 * order: `X-Admin-Token`; `Authorization: Bearer`, which decides; `Basic` with a user's password, a
 * token as password, or a token as user without a password, which decides when it can be read; `?token=` of a GET. Failure is 401
 * with an empty body. A query token is removed before handlers see the URL.
 */
export function apiAuth(options: ApiAuthOptions): MiddlewareHandler {
  const digests = options.tokens.filter((token) => token !== "").map(digestOf);
  const known = (token: string) => {
    const digest = digestOf(token);
    return digests.reduce((found, other) => equalBytes(digest, other) || found, false);
  };
  return async (c, next) => {
    const url = new URL(c.req.url);
    const queryToken = options.queryToken && c.req.method === "GET"
      ? url.searchParams.get("token") ?? undefined
      : undefined;
    if (!await isAllowed(c.req.raw.headers, queryToken, known, options.password)) {
      return c.body(null, 401, { "www-authenticate": `Basic realm="${options.realm}"` });
    }
    if (queryToken !== undefined) {
      url.searchParams.delete("token");
      c.req.raw = new Request(url, { headers: c.req.raw.headers, signal: c.req.raw.signal });
    }
    await next();
  };
}

async function isAllowed(
  headers: Headers,
  queryToken: string | undefined,
  known: (token: string) => boolean,
  password: ApiAuthOptions["password"],
): Promise<boolean> {
  const adminToken = headers.get("x-admin-token");
  if (adminToken !== null && known(adminToken)) return true;
  const [, scheme, credentials] = /^(\S+) +(\S+) *$/.exec(headers.get("authorization") ?? "") ?? [];
  if (scheme?.toLowerCase() === "bearer") return known(credentials!);
  if (scheme?.toLowerCase() === "basic") {
    const basic = readBasic(credentials!);
    if (basic !== undefined) {
      if (await password?.(basic.user, basic.password)) return true;
      return known(basic.password) || basic.password === "" && known(basic.user);
    }
  }
  return queryToken !== undefined && known(queryToken);
}

/** RFC 7617; without a colon the whole text is the user. Undefined when it cannot be decoded. */
function readBasic(credentials: string): { user: string; password: string } | undefined {
  try {
    const text = fromUtf8(fromBase64(credentials));
    const colon = text.indexOf(":");
    return colon < 0
      ? { user: text, password: "" }
      : { user: text.slice(0, colon), password: text.slice(colon + 1) };
  } catch (error) {
    if (error instanceof AppError) return undefined; // another way to authenticate may follow
    throw error;
  }
}

function digestOf(token: string): Uint8Array {
  return sha256(utf8(token));
}
