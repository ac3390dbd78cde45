import { sha256 } from "@noble/hashes/sha2.js";
import { concatBytes, equalBytes, fromHex, utf8 } from "../bytes/bytes.ts";
import { AppError } from "../errors/app-error.ts";
import type { JsonValue } from "../encoding/jcs.ts";
import { parseStrictJson } from "../encoding/strict-json.ts";
import { MAX_APP_COMPOSE_BYTES } from "./app-compose.ts";

/** Shortest token in bytes. */
export const MIN_LAUNCH_TOKEN_LENGTH = 32;

/** What an app-compose pins in `requirements.launch_token_hash` (spec/attestation.md 3.8). 32 bytes. */
export function launchTokenHash(token: string): Uint8Array {
  return sha256(concatBytes(utf8("dstack-launch-token/v1:"), utf8(token)));
}

/**
 * Requires that the user config holds, at `dstack.launch_token`, the token the app pinned. Call it only
 * for apps that pin one: a user config is otherwise the app's own format and never parsed.
 * Throws `input/malformed` or `compose/launch-token-mismatch`.
 */
export function checkLaunchToken(pinnedHashHex: string, userConfig: Uint8Array | undefined): void {
  const pinned = parsePinnedHash(pinnedHashHex);
  const token = launchTokenOf(userConfig);
  if (utf8(token).length < MIN_LAUNCH_TOKEN_LENGTH) {
    throw mismatch("launch token is too short: at least 32 bytes are needed");
  }
  if (!equalBytes(launchTokenHash(token), pinned)) throw mismatch("launch token mismatch");
}

function parsePinnedHash(hex: string): Uint8Array {
  const hash = fromHex(hex, "requirements.launch_token_hash");
  if (hash.length === 32) return hash;
  throw new AppError(
    "input/malformed",
    "Cannot parse requirements.launch_token_hash: expected 32-byte sha256 hex",
  );
}

function launchTokenOf(userConfig: Uint8Array | undefined): string {
  if (userConfig === undefined) {
    throw mismatch("the app pins a launch token but has no user config");
  }
  const config = parseUserConfig(userConfig);
  const token = memberOf(memberOf(config, "dstack"), "launch_token");
  if (token === undefined) throw mismatch("the user config has no dstack.launch_token");
  if (typeof token !== "string") throw mismatch("dstack.launch_token must be a string");
  return token;
}

/** The parser's own message quotes the text, and this text holds a secret. */
function parseUserConfig(userConfig: Uint8Array): JsonValue {
  try {
    return parseStrictJson(userConfig, "user config", { maxSize: MAX_APP_COMPOSE_BYTES });
  } catch {
    throw mismatch("the user config is not strict JSON, so it cannot hold a launch token");
  }
}

function memberOf(value: unknown, name: string): unknown {
  if (typeof value !== "object" || value === null || !Object.hasOwn(value, name)) return undefined;
  return (value as Record<string, unknown>)[name];
}

function mismatch(why: string): AppError {
  return new AppError("compose/launch-token-mismatch", why);
}
