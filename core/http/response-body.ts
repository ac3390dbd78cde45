import { concatBytes } from "../bytes/bytes.ts";
import { AppError } from "../errors/app-error.ts";

/** The whole body of an answer from another service; one longer than `limit` bytes is refused. */
export async function readResponse(
  response: Response,
  limit: number,
  name: string,
): Promise<Uint8Array> {
  if (response.body === null) return new Uint8Array();
  const chunks: Uint8Array[] = [];
  let length = 0;
  for await (const chunk of response.body) {
    length += chunk.length;
    if (length > limit) {
      throw new AppError("upstream/invalid", `${name} answered more than ${limit} bytes`);
    }
    chunks.push(chunk);
  }
  return concatBytes(...chunks);
}
