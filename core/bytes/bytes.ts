import { AppError } from "../errors/app-error.ts";

/** Lower-case hex without a prefix: the form every wire format here uses. */
export function toHex(bytes: Uint8Array): string {
  let text = "";
  for (const byte of bytes) text += HEX[byte];
  return text;
}
const HEX = Array.from({ length: 256 }, (_, i) => i.toString(16).padStart(2, "0"));

/**
 * Parses hex of either case, with an optional `0x` (clients of dstack send it). `length` in bytes,
 * when given, must match exactly. Throws `input/malformed`.
 */
export function fromHex(text: string, field = "hex value", length?: number): Uint8Array {
  const digits = text.startsWith("0x") || text.startsWith("0X") ? text.slice(2) : text;
  if (digits.length % 2 !== 0) throw notHex(field);
  if (length !== undefined && digits.length !== length * 2) {
    throw new AppError(
      "input/malformed",
      `Cannot parse ${field}: ${digits.length / 2} bytes, expected ${length}`,
    );
  }
  const bytes = new Uint8Array(digits.length / 2);
  for (let i = 0; i < bytes.length; i++) {
    const high = HEX_DIGITS[digits.charCodeAt(i * 2)];
    const low = HEX_DIGITS[digits.charCodeAt(i * 2 + 1)];
    if (high === undefined || low === undefined) throw notHex(field);
    bytes[i] = high << 4 | low;
  }
  return bytes;
}

/** Values by character code; undefined for what is no hex digit. */
const HEX_DIGITS: readonly (number | undefined)[] = Array.from({ length: 128 }, (_, code) => {
  const char = String.fromCharCode(code);
  return /[0-9a-fA-F]/.test(char) ? parseInt(char, 16) : undefined;
});

function notHex(field: string): AppError {
  return new AppError("input/malformed", `Cannot parse ${field}: not a hex string`);
}

export function concatBytes(...parts: readonly Uint8Array[]): Uint8Array {
  const whole = new Uint8Array(parts.reduce((n, part) => n + part.length, 0));
  let at = 0;
  for (const part of parts) {
    whole.set(part, at);
    at += part.length;
  }
  return whole;
}

/** Compares without an early exit. The length is not secret; the content may be. */
export function equalBytes(a: Uint8Array, b: Uint8Array): boolean {
  if (a.length !== b.length) return false;
  let difference = 0;
  for (let i = 0; i < a.length; i++) difference |= a[i]! ^ b[i]!;
  return difference === 0;
}

export function isZero(bytes: Uint8Array): boolean {
  return bytes.every((byte) => byte === 0);
}

export function utf8(text: string): Uint8Array {
  return new TextEncoder().encode(text);
}

/** Decodes UTF-8; a malformed sequence is refused, never replaced. Throws `input/malformed`. */
export function fromUtf8(bytes: Uint8Array, field = "text"): string {
  try {
    return new TextDecoder("utf-8", { fatal: true, ignoreBOM: true }).decode(bytes);
  } catch (cause) {
    throw new AppError("input/malformed", `Cannot parse ${field}: not valid UTF-8`, { cause });
  }
}

/** Standard base64 (RFC 4648 section 4) with padding. */
export function toBase64(bytes: Uint8Array): string {
  let binary = "";
  for (let i = 0; i < bytes.length; i += 0x8000) {
    binary += String.fromCharCode(...bytes.subarray(i, i + 0x8000));
  }
  return btoa(binary);
}

/** Strict base64: alphabet, padding and canonical form are checked. Throws `input/malformed`. */
export function fromBase64(text: string, field = "base64 value"): Uint8Array {
  if (text.length % 4 !== 0 || !/^[A-Za-z0-9+/]*={0,2}$/.test(text)) {
    throw new AppError("input/malformed", `Cannot parse ${field}: not base64`);
  }
  let binary: string;
  try {
    binary = atob(text);
  } catch (cause) {
    throw new AppError("input/malformed", `Cannot parse ${field}: not base64`, { cause });
  }
  const bytes = new Uint8Array(binary.length);
  for (let i = 0; i < bytes.length; i++) bytes[i] = binary.charCodeAt(i);
  return bytes;
}
