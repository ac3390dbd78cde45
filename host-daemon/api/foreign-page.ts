import type { MiddlewareHandler } from "hono";
import { AppError } from "#core/errors/app-error.ts";

/** Paths a link on another site may open: the console, which does nothing by itself. */
const LINKABLE = new Set(["/", "/v1", "/beta"]);

/**
 * Keeps web pages of other sites from using a browser's access to this interface. pRPC acts on GET too,
 * so no method is safe by itself: a browser says where a request comes from (Fetch Metadata, Origin),
 * other clients say nothing and pass. Without authentication a DNS name of someone else could be made to
 * lead here, so only addresses and localhost are answered then (`namedHosts` false).
 */
export function refuseForeignPages(options: { readonly namedHosts: boolean }): MiddlewareHandler {
  return async (c, next) => {
    const url = new URL(c.req.url);
    const site = c.req.header("sec-fetch-site");
    const origin = c.req.header("origin");
    const foreign = site === undefined
      ? origin !== undefined && origin !== "null" && hostOf(origin) !== url.host
      : site !== "same-origin" && site !== "none";
    const followed = c.req.header("sec-fetch-mode") === "navigate" && c.req.method === "GET" &&
      LINKABLE.has(url.pathname);
    if (foreign && !followed) {
      throw new AppError("auth/forbidden", "Requests from pages of other sites are refused");
    }
    if (!options.namedHosts && !isLocalName(url.hostname)) {
      throw new AppError(
        "auth/forbidden",
        "Without authentication this interface answers to IP addresses and localhost only",
      );
    }
    await next();
  };
}

function hostOf(origin: string): string | undefined {
  return URL.canParse(origin) ? new URL(origin).host : undefined;
}

function isLocalName(hostname: string): boolean {
  return hostname === "localhost" || hostname.endsWith(".localhost") ||
    /^\d+\.\d+\.\d+\.\d+$/.test(hostname) || hostname.startsWith("[");
}
