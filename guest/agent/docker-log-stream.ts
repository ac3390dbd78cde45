import { AppError } from "#core/errors/app-error.ts";

export type LogChannel = "stdin" | "stdout" | "stderr" | "console";

export interface LogChunk {
  readonly channel: LogChannel;
  readonly data: Uint8Array;
}

const CHANNELS: readonly LogChannel[] = ["stdin", "stdout", "stderr"];
const FRAME_HEADER_BYTES = 8;
/** Docker writes a line or 16 KiB to a frame; more than this is not Docker. */
const MAX_FRAME_BYTES = 1024 * 1024;

/**
 * Splits the stream of Docker's logs call into frames: one byte of channel, three zeros, length u32be,
 * data. A container with a terminal has no frames; its output is the `console` channel.
 */
export async function* readLogChunks(
  stream: ReadableStream<Uint8Array>,
  framed: boolean,
): AsyncGenerator<LogChunk> {
  let pending = new Uint8Array();
  for await (const part of stream) {
    if (!framed) {
      yield { channel: "console", data: part };
      continue;
    }
    const joined = new Uint8Array(pending.length + part.length);
    joined.set(pending);
    joined.set(part, pending.length);
    let at = 0;
    while (joined.length - at >= FRAME_HEADER_BYTES) {
      const length = new DataView(joined.buffer, at).getUint32(4);
      const channel = CHANNELS[joined[at]!];
      if (channel === undefined || length > MAX_FRAME_BYTES) {
        throw new AppError("upstream/invalid", "Docker's log stream is not framed as expected");
      }
      const end = at + FRAME_HEADER_BYTES + length;
      if (end > joined.length) break;
      yield { channel, data: joined.slice(at + FRAME_HEADER_BYTES, end) };
      at = end;
    }
    pending = joined.slice(at);
  }
}

/** Terminal control sequences (ECMA-48 CSI and OSC). */
// deno-lint-ignore no-control-regex -- they are what is looked for
const ANSI = /\x1b(?:\[[0-9;?]*[ -/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\)|[@-Z\\-_])/g;

export function stripAnsi(text: string): string {
  return text.replace(ANSI, "");
}
