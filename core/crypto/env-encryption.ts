import { gcm } from "@noble/ciphers/aes.js";
import { x25519 } from "@noble/curves/ed25519.js";
import { concatBytes, fromUtf8, isZero, utf8 } from "../bytes/bytes.ts";
import { AppError } from "../errors/app-error.ts";

/** Limits of attestation.md 4.6. Lengths in UTF-8 bytes. */
const MAX_ITEMS = 1024;
const MAX_NAME_BYTES = 255;
const MAX_VALUE_BYTES = 128 * 1024;
const MAX_TOTAL_BYTES = 1024 * 1024;
const NAME = /^[A-Za-z_][A-Za-z0-9_]*$/;

const KEY_LENGTH = 32;
const IV_LENGTH = 12;

export interface EnvVar {
  readonly key: string;
  readonly value: string;
}

/**
 * Seals bytes to a 32-byte X25519 public key: ephemeral public key (32), IV (12), AES-256-GCM
 * ciphertext and tag. The cipher key is the raw shared secret. Anyone can seal: the recipient learns
 * nothing about who did.
 */
export function encryptToPublicKey(recipient: Uint8Array, plaintext: Uint8Array): Uint8Array {
  const ephemeral = x25519.utils.randomSecretKey();
  const iv = crypto.getRandomValues(new Uint8Array(IV_LENGTH));
  const sealed = gcm(sharedSecret(ephemeral, recipient), iv).encrypt(plaintext);
  return concatBytes(x25519.getPublicKey(ephemeral), iv, sealed);
}

/** Opens what `encryptToPublicKey` sealed. Throws `input/malformed`, `crypto/decryption-failed`. */
export function decryptWithSecret(secret: Uint8Array, blob: Uint8Array): Uint8Array {
  checkSealedLength(blob);
  const ephemeral = blob.subarray(0, KEY_LENGTH);
  const iv = blob.subarray(KEY_LENGTH, KEY_LENGTH + IV_LENGTH);
  const key = sharedSecret(secret, ephemeral);
  try {
    return gcm(key, iv).decrypt(blob.subarray(KEY_LENGTH + IV_LENGTH));
  } catch (cause) {
    throw new AppError("crypto/decryption-failed", "Cannot decrypt: wrong key or changed bytes", {
      cause,
    });
  }
}

/** What can be said of a blob without the key to it. Throws `input/malformed`. */
export function checkSealedLength(blob: Uint8Array): void {
  if (blob.length < KEY_LENGTH + IV_LENGTH) {
    throw new AppError(
      "input/malformed",
      `Cannot decrypt: ${blob.length} bytes, at least ${KEY_LENGTH + IV_LENGTH} are needed`,
    );
  }
}

export function encryptEnv(recipient: Uint8Array, vars: readonly EnvVar[]): Uint8Array {
  const env = vars.map(({ key, value }) => ({ key, value }));
  return encryptToPublicKey(recipient, utf8(JSON.stringify({ env })));
}

export function decryptEnv(secret: Uint8Array, blob: Uint8Array): EnvVar[] {
  return parseEnv(decryptWithSecret(secret, blob));
}

/** Parses `{"env":[{"key","value"}]}`; at most 1024 items. Throws `input/malformed`. */
export function parseEnv(plaintext: Uint8Array): EnvVar[] {
  let document: unknown;
  try {
    document = JSON.parse(fromUtf8(plaintext, "environment"));
  } catch {
    // The parser's own message quotes the text, and this text is secret.
    throw new AppError("input/malformed", "Cannot parse environment: not JSON");
  }
  const items = member(document, "env");
  if (!Array.isArray(items)) {
    throw new AppError("input/malformed", "Cannot parse environment: env is not an array");
  }
  if (items.length > MAX_ITEMS) {
    throw new AppError(
      "input/too-large",
      `Environment has ${items.length} variables, at most ${MAX_ITEMS} are allowed`,
    );
  }
  return items.map((item: unknown, index) => {
    const key = member(item, "key");
    const value = member(item, "value");
    if (typeof key !== "string" || typeof value !== "string") {
      throw new AppError(
        "input/malformed",
        `Cannot parse environment: item ${index} needs a key and a value`,
      );
    }
    return { key, value };
  });
}

/** The variables an app may see, and the names that were left out because it does not allow them. */
export interface SelectedEnv {
  /** Sorted by name; of two equal names the last one counts. */
  readonly vars: ReadonlyMap<string, string>;
  readonly skipped: readonly string[];
}

/**
 * Keeps what the app-compose's `allowed_envs` names, then enforces names and sizes. Names not allowed
 * are skipped before any other check. Throws `input/malformed`, `input/too-large`.
 */
export function selectEnv(vars: readonly EnvVar[], allowed: readonly string[]): SelectedEnv {
  const allowedNames = new Set(allowed);
  const kept = new Map<string, string>();
  const skipped: string[] = [];
  let total = 0;
  for (const { key, value } of vars) {
    if (!allowedNames.has(key)) {
      skipped.push(key);
      continue;
    }
    const keyBytes = utf8(key).length;
    const valueBytes = utf8(value).length;
    if (keyBytes > MAX_NAME_BYTES) {
      throw new AppError("input/too-large", `Environment name exceeds ${MAX_NAME_BYTES} bytes`);
    }
    if (valueBytes > MAX_VALUE_BYTES) {
      throw new AppError("input/too-large", `Value of ${key} exceeds ${MAX_VALUE_BYTES} bytes`);
    }
    if (!NAME.test(key)) {
      throw new AppError("input/malformed", `Environment name ${JSON.stringify(key)} is invalid`);
    }
    total += keyBytes + valueBytes;
    if (total > MAX_TOTAL_BYTES) {
      throw new AppError("input/too-large", `Environment exceeds ${MAX_TOTAL_BYTES} bytes`);
    }
    kept.set(key, value);
  }
  const sorted = [...kept].sort(([a], [b]) => (a < b ? -1 : a > b ? 1 : 0));
  return { vars: new Map(sorted), skipped };
}

const NEEDS_QUOTES = /[ \t|&;<>()$`\\"'\n]/;

/** `.decrypted-env`: `KEY=value` lines for systemd and shells. A backslash itself is not escaped. */
export function renderEnvFile(vars: ReadonlyMap<string, string>): string {
  let text = "";
  for (const [key, value] of vars) {
    const escaped = value.replace(/["$`]/g, "\\$&").replaceAll("\n", "\\n");
    text += `${key}=${NEEDS_QUOTES.test(value) ? `"${escaped}"` : escaped}\n`;
  }
  return text;
}

/** `.decrypted-env.json`: one object of names and values. */
export function renderEnvJson(vars: ReadonlyMap<string, string>): string {
  return JSON.stringify(Object.fromEntries(vars));
}

/** X25519; a secret of zeros means the peer chose a key of low order. */
function sharedSecret(secret: Uint8Array, publicKey: Uint8Array): Uint8Array {
  let shared: Uint8Array;
  try {
    shared = x25519.getSharedSecret(secret, publicKey);
  } catch (cause) {
    throw new AppError("input/malformed", "Not a usable X25519 public key", { cause });
  }
  if (isZero(shared)) throw new AppError("input/malformed", "X25519 public key has low order");
  return shared;
}

function member(value: unknown, name: string): unknown {
  return typeof value === "object" && value !== null && Object.hasOwn(value, name)
    ? (value as Record<string, unknown>)[name]
    : undefined;
}
