import { AppError } from "#core/errors/app-error.ts";

/** Sends one line of commands to HAProxy and returns everything it answers. */
export type SendRuntime = (text: string) => Promise<string>;

/** What `set server … addr` says when all is well. */
const NOTICE = /^(IP changed from .*|no need to change the addr.*)$/;

/** Commands a line: HAProxy reads a line into one 16 KiB buffer. */
const MAX_LINE_BYTES = 8 * 1024;

export interface RuntimeSocket {
  /**
   * Runs commands that have nothing to say when they succeed, in order, several a connection. Throws
   * `upstream/invalid` with HAProxy's words for the first that fails.
   */
  readonly run: (commands: readonly string[]) => Promise<void>;
  /** One command's answer. */
  readonly query: (command: string) => Promise<string>;
  /** One command with a payload, ended by an empty line; the answer is returned. */
  readonly upload: (command: string, payload: string) => Promise<string>;
}

export function runtimeSocket(send: SendRuntime): RuntimeSocket {
  return {
    async run(commands) {
      for (const line of packLines(commands)) {
        const answer = await send(`${line}\n`);
        const complaint = answer.split("\n").find((l) => l.trim() !== "" && !NOTICE.test(l));
        if (complaint !== undefined) throw refusal(complaint);
      }
    },
    query: (command) => send(`${command}\n`),
    upload(command, payload) {
      const lines = payload.split("\n").filter((line) => line.trim() !== "");
      return send(`${command} <<\n${lines.join("\n")}\n\n`);
    },
  };
}

export function refusal(answer: string): AppError {
  return new AppError("upstream/invalid", `HAProxy refused a command: ${answer.slice(0, 300)}`);
}

function packLines(commands: readonly string[]): string[] {
  const lines: string[] = [];
  let line = "";
  for (const command of commands) {
    if (/[\n;]/.test(command)) throw new TypeError("A runtime command holds one command");
    if (line !== "" && line.length + command.length + 1 > MAX_LINE_BYTES) {
      lines.push(line);
      line = "";
    }
    line += line === "" ? command : `;${command}`;
  }
  return line === "" ? lines : [...lines, line];
}
