import { fromHex, fromUtf8 } from "#core/bytes/bytes.ts";
import { AppError } from "#core/errors/app-error.ts";
import type { CliPorts } from "./context.ts";

/** A file its user named. Throws `input/malformed` when it cannot be read. */
export async function readInput(path: string, ports: CliPorts): Promise<Uint8Array> {
  try {
    return await ports.readFile(path);
  } catch (cause) {
    const why = cause instanceof Error ? cause.message : String(cause);
    throw new AppError("input/malformed", `Cannot read ${path}: ${why}`, { cause });
  }
}

export async function readInputText(path: string, ports: CliPorts): Promise<string> {
  return fromUtf8(await readInput(path, ports), path);
}

/** Raw bytes, or the same as hex text with or without a line end. */
export function rawOrHex(bytes: Uint8Array): Uint8Array {
  const text = new TextDecoder("latin1").decode(bytes).trim();
  return text.length > 0 && /^(0x)?[0-9a-fA-F]+$/.test(text) ? fromHex(text) : bytes;
}
