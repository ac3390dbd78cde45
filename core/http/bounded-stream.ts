import { concatBytes } from "../bytes/bytes.ts";

/**
 * Reads a stream to its end. As soon as it exceeds `limit` bytes the rest is cancelled and what
 * `tooLong` makes is thrown. (By reader: not every browser iterates streams.)
 */
export async function readBounded(
  stream: ReadableStream<Uint8Array> | null,
  limit: number,
  tooLong: () => Error,
): Promise<Uint8Array> {
  if (stream === null) return new Uint8Array();
  const reader = stream.getReader();
  const chunks: Uint8Array[] = [];
  let length = 0;
  for (;;) {
    const { done, value } = await reader.read();
    if (done) return chunks.length === 1 ? chunks[0]! : concatBytes(...chunks);
    length += value.length;
    if (length > limit) {
      const error = tooLong();
      await reader.cancel(error);
      throw error;
    }
    chunks.push(value);
  }
}
