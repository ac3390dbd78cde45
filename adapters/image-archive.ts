import { type FileHandle, open } from "node:fs/promises";
import { pipeline } from "node:stream/promises";
import { createGunzip } from "node:zlib";
import { isZero } from "#core/bytes/bytes.ts";
import { AppError } from "#core/errors/app-error.ts";

const BLOCK_BYTES = 512;
/** Archives are filled up to whole records, 10 KiB by default. */
const MAX_FILL_BYTES = 1024 * 1024;
const FLAT_NAME = /^[A-Za-z0-9_][A-Za-z0-9._-]*$/;

/**
 * Unpacks a gzipped tar (POSIX ustar) of an image into a folder, as it arrives. Only flat regular files
 * are taken, and the folder itself: links, nested or escaping names and a name twice are refused, and
 * more than `maxBytes` of contents. Throws `image/invalid`; what was written by then is the caller's
 * to remove.
 */
export async function unpackImage(
  archive: AsyncIterable<Uint8Array>,
  directory: string,
  maxBytes: number,
): Promise<void> {
  try {
    await pipeline(
      archive,
      createGunzip(),
      (unpacked: AsyncIterable<Uint8Array>) =>
        writeFiles(new Source(unpacked), directory, maxBytes),
    );
  } catch (cause) {
    if (cause instanceof AppError) throw cause;
    throw invalid("it is damaged", cause);
  }
}

async function writeFiles(source: Source, directory: string, maxBytes: number): Promise<void> {
  const names = new Set<string>();
  let left = maxBytes;
  for (;;) {
    const header = await source.exactly(BLOCK_BYTES);
    if (isZero(header)) return await source.end();
    const { name, size, kind } = readHeader(header);
    left -= size;
    if (left < 0) throw invalid(`it unpacks to more than ${maxBytes} bytes`);
    if (kind === "directory" && size === 0 && /^\.?\/?$/.test(name)) continue;
    const file = name.replace(/^\.\//, "");
    if (kind !== "file" || !FLAT_NAME.test(file) || names.has(file)) {
      throw invalid(`'${name.slice(0, 80)}' is not a flat file of its own`);
    }
    names.add(file);
    const handle = await open(`${directory}/${file}`, "wx", 0o600);
    try {
      await copy(source, handle, size);
    } finally {
      await handle.close();
    }
  }
}

/** Contents are padded to whole blocks. */
async function copy(source: Source, file: FileHandle, size: number): Promise<void> {
  let left = size;
  while (left > 0) {
    const chunk = await source.some(left);
    await file.write(chunk);
    left -= chunk.length;
  }
  await source.exactly((BLOCK_BYTES - size % BLOCK_BYTES) % BLOCK_BYTES);
}

function readHeader(block: Uint8Array) {
  const text = (from: number, length: number) =>
    new TextDecoder("latin1").decode(block.subarray(from, from + length)).replace(/\0.*$/s, "");
  const octal = /^ *([0-7]{1,12}) *$/.exec(text(124, 12));
  const sum = block.reduce((total, byte, i) => total + (i >= 148 && i < 156 ? 0x20 : byte), 0);
  if (octal === null || parseInt(text(148, 8), 8) !== sum) throw invalid("a header is damaged");
  if (text(345, 155) !== "") throw invalid("a name is nested");
  const flag = text(156, 1);
  const kind = flag === "" || flag === "0" ? "file" : flag === "5" ? "directory" : "other";
  return { name: text(0, 100), size: parseInt(octal[1]!, 8), kind };
}

/** A stream read in pieces of our choice. */
class Source {
  readonly #chunks: AsyncIterator<Uint8Array>;
  #rest: Uint8Array = new Uint8Array(0);

  constructor(stream: AsyncIterable<Uint8Array>) {
    this.#chunks = stream[Symbol.asyncIterator]();
  }

  /** From 1 to `max` bytes. */
  async some(max: number): Promise<Uint8Array> {
    while (this.#rest.length === 0) {
      const { value, done } = await this.#chunks.next();
      if (done) throw invalid("it ends too early");
      this.#rest = value;
    }
    const bytes = this.#rest.subarray(0, max);
    this.#rest = this.#rest.subarray(bytes.length);
    return bytes;
  }

  /** Reads the zeros that fill the last record. */
  async end(): Promise<void> {
    for (let left = MAX_FILL_BYTES;; left -= this.#rest.length) {
      if (left < 0 || !isZero(this.#rest)) throw invalid("something follows its end");
      const { value, done } = await this.#chunks.next();
      if (done) return;
      this.#rest = value;
    }
  }

  async exactly(length: number): Promise<Uint8Array> {
    const bytes = new Uint8Array(length);
    for (let at = 0; at < length;) {
      const chunk = await this.some(length - at);
      bytes.set(chunk, at);
      at += chunk.length;
    }
    return bytes;
  }
}

function invalid(why: string, cause?: unknown): AppError {
  return new AppError("image/invalid", `Image archive refused: ${why}`, { cause });
}
