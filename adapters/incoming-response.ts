import type { ClientRequest, IncomingMessage } from "node:http";
import { AppError } from "#core/errors/app-error.ts";

/**
 * The Response for what a server sent. Its body arrives as it is read, `maxBytes` at most.
 */
export function responseOf(incoming: IncomingMessage, maxBytes: number, host: string): Response {
  const status = incoming.statusCode ?? 0;
  if (status < 200 || status > 599) {
    incoming.destroy();
    throw new AppError("upstream/invalid", `${host} answered HTTP status ${status}`);
  }
  const headers = new Headers();
  for (let i = 0; i + 1 < incoming.rawHeaders.length; i += 2) {
    headers.append(incoming.rawHeaders[i]!, incoming.rawHeaders[i + 1]!);
  }
  if (status === 204 || status === 205 || status === 304) {
    incoming.resume();
    return new Response(null, { status, headers });
  }
  const chunks = capped(incoming, maxBytes, host);
  const body = new ReadableStream<Uint8Array<ArrayBuffer>>({
    async pull(controller) {
      const { done, value } = await chunks.next();
      if (done) controller.close();
      else controller.enqueue(value);
    },
    async cancel() {
      await chunks.return(undefined);
    },
  });
  return new Response(body, { status, headers });
}

async function* capped(
  incoming: IncomingMessage,
  maxBytes: number,
  host: string,
): AsyncGenerator<Uint8Array<ArrayBuffer>, void, void> {
  let length = 0;
  try {
    for await (const chunk of incoming as AsyncIterable<Uint8Array>) {
      length += chunk.length;
      if (length > maxBytes) {
        throw new AppError("upstream/invalid", `${host} answered more than ${maxBytes} bytes`);
      }
      yield new Uint8Array(chunk);
    }
  } catch (cause) {
    if (cause instanceof AppError) throw cause;
    throw new AppError("upstream/unavailable", `${host} broke off its answer`, { cause });
  }
}

/** The head of the answer to `request`, once it is there. */
export function incomingOf(request: ClientRequest): Promise<IncomingMessage> {
  return new Promise((resolve, reject) => {
    request.once("response", resolve);
    request.once("error", reject);
  });
}

/** Aborts with the caller's reason, or with `upstream/unavailable` after `timeoutMs` (0: never). */
export function deadline(
  signal: AbortSignal | undefined,
  timeoutMs: number,
  what: string,
): { signal: AbortSignal; clear(): void } {
  const controller = new AbortController();
  const timer = timeoutMs === 0 ? undefined : setTimeout(() => {
    const message = `${what} took longer than ${timeoutMs} ms`;
    controller.abort(new AppError("upstream/unavailable", message));
  }, timeoutMs);
  const forward = () => controller.abort(signal?.reason);
  if (signal?.aborted) forward();
  else signal?.addEventListener("abort", forward, { once: true });
  return {
    signal: controller.signal,
    clear() {
      clearTimeout(timer);
      signal?.removeEventListener("abort", forward);
    },
  };
}
