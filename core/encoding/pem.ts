import { fromBase64, toBase64 } from "../bytes/bytes.ts";
import { AppError } from "../errors/app-error.ts";

/** One PEM block (RFC 7468) in 64-character lines, newline at the end. */
export function encodePem(label: string, der: Uint8Array): string {
  const lines = toBase64(der).match(/.{1,64}/g) ?? [];
  return `-----BEGIN ${label}-----\n${lines.join("\n")}\n-----END ${label}-----\n`;
}

const BLOCK = /-----BEGIN ([A-Z0-9 ]{1,64})-----([A-Za-z0-9+/=\s]*)-----END \1-----/g;

/** Every block with this label, in order; text around the blocks is ignored as RFC 7468 says. */
export function decodePem(label: string, pem: string): Uint8Array[] {
  const blocks: Uint8Array[] = [];
  for (const [, found, body] of pem.matchAll(BLOCK)) {
    if (found === label) blocks.push(fromBase64(body!.replace(/\s+/g, ""), `PEM ${label}`));
  }
  return blocks;
}

/** The one block with this label. Throws `input/malformed` when there is none or a second one. */
export function decodeOnePem(label: string, pem: string): Uint8Array {
  const [block, ...more] = decodePem(label, pem);
  if (block === undefined || more.length > 0) {
    throw new AppError(
      "input/malformed",
      `Cannot parse PEM: ${
        block === undefined ? "no" : more.length + 1
      } ${label} found, expected 1`,
    );
  }
  return block;
}
