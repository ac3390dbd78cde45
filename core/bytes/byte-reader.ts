import { AppError } from "../errors/app-error.ts";

/**
 * Reads one structure from bytes of unknown origin. Every method names the specification's field it
 * reads, so that a refusal says what was missing; none returns a view that outlives the input.
 * Throws `input/malformed`.
 */
export class ByteReader {
  readonly #bytes: Uint8Array;
  readonly #view: DataView;
  readonly #structure: string;
  #offset = 0;

  constructor(bytes: Uint8Array, structure: string) {
    this.#bytes = bytes;
    this.#view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
    this.#structure = structure;
  }

  get offset(): number {
    return this.#offset;
  }

  get remaining(): number {
    return this.#bytes.length - this.#offset;
  }

  bytes(field: string, length: number): Uint8Array {
    const start = this.#take(field, length);
    return this.#bytes.slice(start, start + length);
  }

  skip(field: string, length: number): void {
    this.#take(field, length);
  }

  /** A length-prefixed run: `length` came from the wire, `max` from the specification. */
  bounded(field: string, length: number, max: number): Uint8Array {
    if (length > max) throw this.malformed(field, `${length} bytes, at most ${max} are allowed`);
    return this.bytes(field, length);
  }

  u8(field: string): number {
    return this.#view.getUint8(this.#take(field, 1));
  }
  u16le(field: string): number {
    return this.#view.getUint16(this.#take(field, 2), true);
  }
  u16be(field: string): number {
    return this.#view.getUint16(this.#take(field, 2), false);
  }
  u32le(field: string): number {
    return this.#view.getUint32(this.#take(field, 4), true);
  }
  u32be(field: string): number {
    return this.#view.getUint32(this.#take(field, 4), false);
  }
  u64le(field: string): bigint {
    return this.#view.getBigUint64(this.#take(field, 8), true);
  }
  u64be(field: string): bigint {
    return this.#view.getBigUint64(this.#take(field, 8), false);
  }

  /** UTF-8 text; a malformed sequence is refused, never replaced. */
  utf8(field: string, length: number): string {
    const raw = this.bytes(field, length);
    try {
      return new TextDecoder("utf-8", { fatal: true, ignoreBOM: true }).decode(raw);
    } catch (cause) {
      throw this.malformed(field, "not valid UTF-8", cause);
    }
  }

  rest(): Uint8Array {
    return this.bytes("rest", this.remaining);
  }

  /** Trailing bytes are malleability: refuse them unless the specification allows padding. */
  end(): void {
    if (this.remaining > 0) {
      throw new AppError(
        "input/malformed",
        `Cannot parse ${this.#structure}: ${this.remaining} bytes left after the last field`,
      );
    }
  }

  malformed(field: string, why: string, cause?: unknown): AppError {
    return new AppError("input/malformed", `Cannot parse ${this.#structure}: ${field} ${why}`, {
      cause,
    });
  }

  #take(field: string, length: number): number {
    const start = this.#offset;
    if (!(length >= 0) || start + length > this.#bytes.length) {
      throw new AppError(
        "input/malformed",
        `Cannot parse ${this.#structure}: ${field} needs ${length} bytes at offset ${start} of ${this.#bytes.length}`,
      );
    }
    this.#offset = start + length;
    return start;
  }
}
