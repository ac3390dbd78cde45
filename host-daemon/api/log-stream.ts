import type { HostFiles } from "../vmm/ports.ts";

export interface LogRequest {
  readonly path: string;
  /** Lines from the end to begin with. */
  readonly lines: number;
  readonly follow: boolean;
  /** Keep terminal escape sequences. */
  readonly ansi: boolean;
}

/** A follower polls; a line is shown at most this much later. */
const POLL_MS = 250;
/** After this silence a follower gets a line of its own, so that a dead peer is noticed. */
const HEARTBEAT_MS = 60_000;
const HEARTBEAT = "[vmm heartbeat]\n";
const CHUNK_BYTES = 64 * 1024;
/** What `lines` can reach back to, in bytes. */
const MAX_TAIL_BYTES = 8 * 1024 * 1024;

/** A log file as a byte stream (spec/vmm.md section 2.2). A rotated file is followed from its start. */
export function logStream(request: LogRequest, files: HostFiles): ReadableStream<Uint8Array> {
  const { path, follow, ansi } = request;
  const clean = ansi ? (bytes: Uint8Array) => bytes : stripper();
  let offset = 0;
  let lastSentAt = Date.now();
  let cancelled = false;
  return new ReadableStream<Uint8Array>({
    async start(controller) {
      const size = await files.sizeOf(path);
      const tail = await files.readTail(path, MAX_TAIL_BYTES) ?? new Uint8Array();
      offset = size;
      const last = lastLines(tail, request.lines);
      if (last.length > 0) controller.enqueue(clean(last));
      if (!follow) controller.close();
    },
    async pull(controller) {
      while (!cancelled) {
        const size = await files.sizeOf(path);
        if (size < offset) offset = 0;
        const chunk = await files.readFrom(path, offset, CHUNK_BYTES);
        if (chunk.length > 0) {
          offset += chunk.length;
          lastSentAt = Date.now();
          const bytes = clean(chunk);
          if (bytes.length === 0) continue;
          controller.enqueue(bytes);
          return;
        }
        if (Date.now() - lastSentAt >= HEARTBEAT_MS) {
          lastSentAt = Date.now();
          controller.enqueue(new TextEncoder().encode(HEARTBEAT));
          return;
        }
        await new Promise((resolve) => setTimeout(resolve, POLL_MS));
      }
    },
    cancel() {
      cancelled = true;
    },
  });
}

/** The last `count` lines of `bytes`; a line that is still being written counts as one. */
export function lastLines(bytes: Uint8Array, count: number): Uint8Array {
  if (count <= 0) return new Uint8Array();
  let seen = 0;
  for (let i = bytes.length - 2; i >= 0; i--) {
    if (bytes[i] === 10 && ++seen === count) return bytes.subarray(i + 1);
  }
  return bytes;
}

const ESC = 0x1b;

/**
 * Removes escape sequences (ECMA-48: CSI, OSC, two-byte) and other control characters but newline and
 * tab, also where a chunk ends inside one.
 */
export function stripper(): (chunk: Uint8Array) => Uint8Array {
  let state: "text" | "escape" | "csi" | "osc" | "osc-escape" = "text";
  return (chunk) => {
    const out = new Uint8Array(chunk.length);
    let length = 0;
    for (const byte of chunk) {
      switch (state) {
        case "text":
          if (byte === ESC) state = "escape";
          else if (byte >= 0x20 && byte !== 0x7f || byte === 10 || byte === 9) out[length++] = byte;
          break;
        case "escape":
          if (byte === 0x5b) state = "csi";
          else if (byte === 0x5d) state = "osc";
          else if (byte < 0x20 || byte > 0x2f) state = "text";
          break;
        case "csi":
          if (byte >= 0x40 && byte <= 0x7e) state = "text";
          break;
        case "osc":
          if (byte === 7) state = "text";
          else if (byte === ESC) state = "osc-escape";
          break;
        case "osc-escape":
          state = byte === 0x5c ? "text" : "osc";
          break;
      }
    }
    return out.slice(0, length);
  };
}
