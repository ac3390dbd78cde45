import { concatBytes, toBase64, utf8 } from "#core/bytes/bytes.ts";
import { AppError } from "#core/errors/app-error.ts";
import type { Agent } from "./agent.ts";
import { keyAlgorithmOf, parseSignatureAlgorithm } from "./app-signature.ts";

/** What a quote says to bind Sign's key: 64 bytes, ASCII padded with zeros (guest-agent.md 6.1). */
export function appKeyReportData(agent: Pick<Agent, "deriveKey">, algorithm: string): Uint8Array {
  const name = parseSignatureAlgorithm(algorithm);
  if (name === "secp256k1_prehashed") {
    throw new AppError("input/unsupported", "Unsupported algorithm");
  }
  const { publicKey } = agent.deriveKey("vms", "signing", keyAlgorithmOf(name));
  const scheme = name === "ed25519" ? "ed25519-pk" : "secp256k1c-pk";
  const key = toBase64(publicKey).replaceAll("+", "-").replaceAll("/", "_").replaceAll("=", "");
  const text = utf8(`dip1::${scheme}:${key}`);
  return concatBytes(text, new Uint8Array(64 - text.length));
}
