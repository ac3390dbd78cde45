import { chmod, chown, rm } from "node:fs/promises";
import { connect, createServer, type Server } from "node:net";
import { AppError } from "#core/errors/app-error.ts";

/** Sends `text`, half-closes nothing, and reads until the peer closes: HAProxy's one-shot mode. */
export function exchange(path: string, text: string, timeoutMs: number): Promise<string> {
  return new Promise((resolve, reject) => {
    const socket = connect(path);
    const chunks: Uint8Array[] = [];
    socket.setTimeout(timeoutMs, () => socket.destroy(new Error(`No answer in ${timeoutMs} ms`)));
    socket.on("connect", () => socket.write(text));
    socket.on("data", (chunk: Uint8Array) => chunks.push(chunk));
    socket.on("end", () => resolve(decode(chunks)));
    socket.on(
      "error",
      (cause) => reject(new AppError("upstream/unavailable", `Cannot talk to ${path}`, { cause })),
    );
  });
}

/** Calls `onClosed` once, when the peer of a connection to `path` goes away; returns how to stop. */
export function watchPeer(path: string, onClosed: () => void): () => void {
  const socket = connect(path);
  let open = true;
  const closed = () => {
    if (open) onClosed();
    open = false;
  };
  socket.on("error", closed);
  socket.on("close", closed);
  socket.resume();
  // Stays in the prompt of an interactive session; without it HAProxy closes after one command.
  socket.write("prompt\n");
  return () => {
    open = false;
    socket.destroy();
  };
}

export interface LineServer extends AsyncDisposable {
  readonly path: string;
}

/**
 * Serves one question a connection: a line in, a line out. A line longer than `maxBytes` or a
 * handler that rejects closes the connection without an answer.
 */
export async function serveLines(
  path: string,
  options: { maxBytes: number; timeoutMs: number; owner?: SocketOwner | undefined },
  answer: (line: string) => Promise<string>,
  onError: (error: unknown) => void,
): Promise<LineServer> {
  await rm(path, { force: true });
  const server = createServer((socket) => {
    let text = "";
    let asked = false;
    socket.setTimeout(options.timeoutMs, () => socket.destroy());
    socket.setEncoding("utf8");
    socket.on("error", () => socket.destroy());
    socket.on("data", (chunk: string) => {
      if (asked) return;
      text += chunk;
      const end = text.indexOf("\n");
      if (end < 0) {
        if (text.length > options.maxBytes) socket.destroy();
        return;
      }
      asked = true;
      answer(text.slice(0, end)).then(
        (line) => socket.end(`${line}\n`),
        (error: unknown) => {
          onError(error);
          socket.destroy();
        },
      );
    });
  });
  await listening(server, path);
  await restrictSocket(path, options.owner);
  return {
    path,
    async [Symbol.asyncDispose]() {
      await new Promise<void>((resolve) => server.close(() => resolve()));
      await rm(path, { force: true });
    },
  };
}

export interface SocketOwner {
  readonly uid: number;
  readonly gid: number;
}

/** Leaves a socket to its owner, and to none but `owner` where one is given. */
export async function restrictSocket(path: string, owner: SocketOwner | undefined): Promise<void> {
  await chmod(path, 0o600);
  if (owner !== undefined) await chown(path, owner.uid, owner.gid);
}

function listening(server: Server, path: string): Promise<void> {
  return new Promise((resolve, reject) => {
    server.once("error", reject);
    server.listen({ path, backlog: 1024 }, () => {
      server.off("error", reject);
      resolve();
    });
  });
}

function decode(chunks: readonly Uint8Array[]): string {
  const decoder = new TextDecoder();
  return chunks.map((chunk) => decoder.decode(chunk, { stream: true })).join("");
}
