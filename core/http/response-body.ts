import { AppError } from "../errors/app-error.ts";
import { readBounded } from "./bounded-stream.ts";

/** The whole body of an answer from another service; one longer than `limit` bytes is refused. */
export function readResponse(response: Response, limit: number, name: string): Promise<Uint8Array> {
  const tooLong = () =>
    new AppError("upstream/invalid", `${name} answered more than ${limit} bytes`);
  return readBounded(response.body, limit, tooLong);
}
