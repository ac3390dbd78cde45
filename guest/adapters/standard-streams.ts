import { Buffer } from "node:buffer";
import process from "node:process";
import { AppError } from "#core/errors/app-error.ts";

/** Everything on standard input, refused beyond `maxBytes`. */
export async function readStandardInput(maxBytes: number): Promise<Uint8Array> {
  const chunks: Uint8Array[] = [];
  let length = 0;
  for await (const chunk of process.stdin) {
    length += chunk.length;
    if (length > maxBytes) {
      throw new AppError("input/too-large", `More than ${maxBytes} bytes on standard input`);
    }
    chunks.push(new Uint8Array(chunk));
  }
  return new Uint8Array(Buffer.concat(chunks));
}

export function writeStandardOutput(data: Uint8Array | string): Promise<void> {
  return new Promise((resolve, reject) => {
    process.stdout.write(data, (error) => error ? reject(error) : resolve());
  });
}
