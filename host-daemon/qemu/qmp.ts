import { AppError } from "#core/errors/app-error.ts";

/** A connected byte stream carrying text; the adapter owns the socket. */
export interface TextStream {
  send(text: string): void;
  /** Called once, before any text arrives. */
  start(handlers: { text: (chunk: string) => void; closed: (cause?: unknown) => void }): void;
  close(): void;
}

export interface QmpEvent {
  readonly event: string;
  readonly data: Readonly<Record<string, unknown>>;
}

interface Waiting {
  readonly resolve: (value: unknown) => void;
  readonly reject: (cause: unknown) => void;
  readonly timer: ReturnType<typeof setTimeout>;
}

/** One QMP line; far above any answer the commands used here give. */
const MAX_LINE_LENGTH = 4 * 1024 * 1024;

/**
 * QEMU's control channel: JSON lines, a greeting, then commands told apart by `id`, with events between
 * them (QEMU docs/interop/qmp-spec). One client at a time may be connected to a monitor.
 */
export class QmpClient {
  readonly #stream: TextStream;
  readonly #waiting = new Map<string, Waiting>();
  readonly #timeoutMs: number;
  #nextId = 1;
  #buffer = "";
  #closed = false;
  #greeted!: () => void;
  #refused!: (cause: unknown) => void;
  readonly #greeting: Promise<void>;
  /** Settles when the connection ends; a QEMU that exits closes its monitor. */
  readonly closed: Promise<void>;
  #markClosed!: () => void;
  onEvent: (event: QmpEvent) => void = () => {};

  private constructor(stream: TextStream, timeoutMs: number) {
    this.#stream = stream;
    this.#timeoutMs = timeoutMs;
    this.closed = new Promise((resolve) => this.#markClosed = resolve);
    this.#greeting = new Promise((resolve, reject) => {
      this.#greeted = resolve;
      this.#refused = reject;
    });
    stream.start({ text: (chunk) => this.#take(chunk), closed: (cause) => this.#end(cause) });
  }

  /** Waits for the greeting and leaves negotiation mode. Throws `upstream/unavailable`. */
  static async connect(stream: TextStream, timeoutMs = 5000): Promise<QmpClient> {
    const client = new QmpClient(stream, timeoutMs);
    const timer = setTimeout(
      () => client.#refused(new AppError("upstream/unavailable", "QEMU's monitor does not answer")),
      timeoutMs,
    );
    try {
      await client.#greeting;
      await client.execute("qmp_capabilities");
    } catch (error) {
      client.close();
      throw error;
    } finally {
      clearTimeout(timer);
    }
    return client;
  }

  execute(command: string, args?: Readonly<Record<string, unknown>>): Promise<unknown> {
    if (this.#closed) {
      return Promise.reject(new AppError("upstream/unavailable", "QEMU's monitor is closed"));
    }
    const id = String(this.#nextId++);
    return new Promise((resolve, reject) => {
      const timer = setTimeout(() => {
        this.#waiting.delete(id);
        reject(new AppError("upstream/unavailable", `QEMU did not answer ${command}`));
      }, this.#timeoutMs);
      this.#waiting.set(id, { resolve, reject, timer });
      this.#stream.send(JSON.stringify({ execute: command, arguments: args, id }) + "\n");
    });
  }

  close(): void {
    this.#stream.close();
    this.#end();
  }

  #take(chunk: string): void {
    this.#buffer += chunk;
    for (let at; (at = this.#buffer.indexOf("\n")) >= 0;) {
      const line = this.#buffer.slice(0, at).trim();
      this.#buffer = this.#buffer.slice(at + 1);
      if (line !== "" && !this.#line(line)) return this.close();
    }
    if (this.#buffer.length > MAX_LINE_LENGTH) this.close();
  }

  /** False when the peer does not speak QMP. */
  #line(line: string): boolean {
    let message: Record<string, unknown>;
    try {
      const parsed: unknown = JSON.parse(line);
      if (!isRecord(parsed)) return false;
      message = parsed;
    } catch (cause) {
      this.#refused(new AppError("upstream/invalid", "QEMU's monitor sent no JSON", { cause }));
      return false;
    }
    if ("QMP" in message) {
      this.#greeted();
    } else if (typeof message["event"] === "string") {
      this.onEvent({
        event: message["event"],
        data: isRecord(message["data"]) ? message["data"] : {},
      });
    } else {
      this.#answer(message);
    }
    return true;
  }

  #answer(message: Record<string, unknown>): void {
    const id = String(message["id"]);
    const waiting = this.#waiting.get(id);
    if (waiting === undefined) return;
    this.#waiting.delete(id);
    clearTimeout(waiting.timer);
    const error = message["error"];
    if (isRecord(error)) {
      waiting.reject(new AppError("upstream/invalid", `QEMU: ${String(error["desc"])}`));
    } else waiting.resolve(message["return"]);
  }

  #end(cause?: unknown): void {
    if (this.#closed) return;
    this.#closed = true;
    const error = new AppError("upstream/unavailable", "QEMU's monitor closed", { cause });
    this.#refused(error);
    this.#greeting.catch(() => {}); // may have nobody waiting any more
    for (const waiting of this.#waiting.values()) {
      clearTimeout(waiting.timer);
      waiting.reject(error);
    }
    this.#waiting.clear();
    this.#markClosed();
  }
}

function isRecord(value: unknown): value is Record<string, unknown> {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}
