import { fromUtf8, utf8 } from "#core/bytes/bytes.ts";
import type { FetchLike } from "#core/http/fetch-like.ts";
import { runCli } from "./run.ts";

const refuseFetch: FetchLike = (url) => Promise.reject(new Error(`nobody answers at ${url}`));

export interface TerminalOptions {
  readonly files?: Readonly<Record<string, string | Uint8Array>>;
  readonly env?: Readonly<Record<string, string>>;
  readonly fetch?: FetchLike;
  readonly unixFetch?: (path: string) => FetchLike;
  readonly tlsFetch?: (caPem: string | undefined) => FetchLike;
  /** Exit status of a program of the checkout. */
  readonly runFromCheckout?: (program: string, argv: readonly string[]) => Promise<number>;
  readonly now?: Date;
  /** Called for each sleep, after the clock moved on. */
  readonly onSleep?: () => void | Promise<void>;
}

/** A terminal for one user: files in memory, a clock that only sleeping moves, what was printed. */
export function terminal(options: TerminalOptions = {}) {
  const files = new Map(
    Object.entries(options.files ?? {}).map(([path, content]) =>
      [path, typeof content === "string" ? utf8(content) : content] as const
    ),
  );
  const clock = { nowMs: (options.now ?? new Date("2026-06-01T12:00:00Z")).getTime() };
  const written: string[] = [];

  /** Runs one command as a shell would. */
  const dstack = async (...argv: string[]) => {
    let stdout = "";
    let stderr = "";
    let code = 0;
    await runCli(argv, "0.1.0", {
      env: options.env ?? {},
      readFile: async (path) => {
        const content = files.get(path);
        if (content === undefined) {
          const why = `ENOENT: no such file, open '${path}'`;
          throw Object.assign(new Error(why), { code: "ENOENT" });
        }
        return content;
      },
      writeFile: async (path, bytes) => {
        written.push(path);
        files.set(path, bytes);
      },
      fetch: options.fetch ?? refuseFetch,
      unixFetch: options.unixFetch ?? (() => refuseFetch),
      tlsFetch: options.tlsFetch ?? (() => refuseFetch),
      now: () => new Date(clock.nowMs),
      randomBytes: (length) => new Uint8Array(length).fill(0x5a),
      sleep: async (ms) => {
        clock.nowMs += ms;
        await options.onSleep?.();
      },
      print: (text) => void (stdout += `${text}\n`),
      write: (text) => void (stdout += text),
      say: (text) => void (stderr += `${text}\n`),
      runFromCheckout: options.runFromCheckout ?? (() => Promise.reject(new Error("no checkout"))),
      setExitCode: (status) => void (code = status),
    });
    return { code, stdout, stderr };
  };
  return { dstack, written, text: (path: string) => fromUtf8(files.get(path)!) };
}

/** A FetchLike over an app's `fetch`, as if it listened somewhere. */
export function fetchOf(
  app: { fetch(request: Request): Response | Promise<Response> },
): FetchLike {
  return async (url, { method, headers, body, signal }) =>
    await app.fetch(
      new Request(url, {
        method,
        headers,
        ...(body !== undefined && { body: body as BodyInit }),
        ...(signal && { signal }),
      }),
    );
}
