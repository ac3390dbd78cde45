import type { Server } from "node:http";
import type { ListenOptions } from "node:net";
import process from "node:process";
import { AppError } from "#core/errors/app-error.ts";
import { isErrno } from "./files.ts";

/** A server that accepts connections. */
export interface Listening {
  /** 0 on unix sockets. */
  readonly port: number;
  /** Stops accepting, lets running requests end for `graceMs` (default 5 s), then cuts them off. */
  close(graceMs?: number): Promise<void>;
}

/** Throws `resource/conflict` when the address is taken. `name` says what is bound: `127.0.0.1:8000`. */
export async function listen(
  server: Server,
  options: ListenOptions | { readonly fd: number },
  name: string,
): Promise<Listening> {
  await new Promise<void>((resolve, reject) => {
    const refuse = (cause: Error) =>
      reject(
        isErrno(cause, "EADDRINUSE")
          ? new AppError("resource/conflict", `Cannot listen on ${name}: it is already taken`, {
            cause,
          })
          : new AppError("config/invalid", `Cannot listen on ${name}`, { cause }),
      );
    server.once("error", refuse);
    server.listen(options, () => {
      server.off("error", refuse);
      resolve();
    });
  });
  // A connection that cannot be accepted (too many files) must not end the others.
  server.on("error", (error) => process.emitWarning(error));
  const address = server.address();
  return {
    port: typeof address === "object" && address !== null ? address.port : 0,
    async close(graceMs = 5000) {
      const closed = new Promise<void>((resolve) => server.close(() => resolve()));
      server.closeIdleConnections();
      const timer = setTimeout(() => server.closeAllConnections(), graceMs);
      await closed;
      clearTimeout(timer);
    },
  };
}
