import { AppError } from "#core/errors/app-error.ts";
import type { FetchLike } from "#core/http/fetch-like.ts";
import { byId, h } from "./dom.ts";

/** The one way out of this tab. Nothing rides along, redirects are not followed, each request is shown. */
export const pageFetch: FetchLike = async (url, { method, headers, body, signal }) => {
  const { host } = new URL(url);
  record(method, url, typeof body === "string" ? body.length : body?.length ?? 0);
  try {
    return await fetch(url, {
      method,
      headers: { ...headers },
      ...(body !== undefined && { body: body as BodyInit }),
      ...(signal && { signal }),
      credentials: "omit",
      referrerPolicy: "no-referrer",
      redirect: "error",
      cache: "no-store",
    });
  } catch (cause) {
    throw new AppError(
      "upstream/unavailable",
      `The browser got no answer from ${host}: it is down, its certificate is not trusted here, or ` +
        "it does not let pages ask (CORS)",
      { cause },
    );
  }
};

let count = 0;

function record(method: string, url: string, bytes: number): void {
  count++;
  byId("network-summary").textContent = `This tab has made ${count} request${
    count === 1 ? "" : "s"
  }, each because you asked`;
  const sent = bytes === 0 ? "" : ` with ${bytes} bytes`;
  byId("network-list").append(h("li", {}, `${method} ${url}${sent}`));
}

/** Has the browser refuse every further request of this tab, until it is loaded again. */
export function sealTab(): void {
  const policy = { "http-equiv": "Content-Security-Policy", content: "connect-src 'none'" };
  document.head.append(h("meta", policy));
}
