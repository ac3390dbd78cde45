import { ed25519 } from "@noble/curves/ed25519.js";
import { secp256k1 } from "@noble/curves/secp256k1.js";
import { toHex, utf8 } from "#core/bytes/bytes.ts";
import { deriveKey } from "#core/crypto/kdf.ts";
import { k256PublicKey, signK256 } from "#core/crypto/k256.ts";
import { AppError } from "#core/errors/app-error.ts";

/** Longest path and purpose, in UTF-16 units: a derivation is cheap, keeping its answer is not free. */
const MAX_TEXT = 4096;
/** How many answers are kept; apps ask for the same few keys again and again. */
const MAX_CACHED = 256;

export type KeyAlgorithm = "secp256k1" | "ed25519";

export interface DerivedKey {
  /** 32 bytes: the secp256k1 scalar, or the ed25519 seed. */
  readonly key: Uint8Array;
  /** 33 bytes compressed, or 32. */
  readonly publicKey: Uint8Array;
  /** The app key's signature over `purpose:<hex public key>`, then the KMS's over the app key. */
  readonly signatureChain: readonly [Uint8Array, Uint8Array];
}

export interface AppKeyRoot {
  /** 32 bytes. */
  readonly k256Key: Uint8Array;
  /** 65 bytes, or empty where no KMS signed. */
  readonly k256Signature: Uint8Array;
}

/** Names of GetKey (guest-agent.md 4.2); the empty one is secp256k1. Throws `input/unsupported`. */
export function parseKeyAlgorithm(name: string): KeyAlgorithm {
  switch (name) {
    case "":
    case "k256":
    case "secp256k1":
      return "secp256k1";
    case "ed25519":
      return "ed25519";
    default:
      throw new AppError("input/unsupported", "Unsupported algorithm");
  }
}

export type DeriveAppKey = (path: string, purpose: string, algorithm: KeyAlgorithm) => DerivedKey;

/**
 * GetKey. Only the path separates keys: one path gives the same 32 bytes for every purpose and
 * algorithm, which clients rely on.
 */
export function createAppKeyDerivation(root: AppKeyRoot): DeriveAppKey {
  const cache = new Map<string, DerivedKey>();
  return (path, purpose, algorithm) => {
    if (path.length > MAX_TEXT || purpose.length > MAX_TEXT) {
      throw new AppError("input/too-large", `path and purpose may have ${MAX_TEXT} characters`);
    }
    const id = JSON.stringify([path, purpose, algorithm]);
    const known = cache.get(id);
    if (known !== undefined) return known;
    const key = deriveKey(root.k256Key, [path], 32);
    const publicKey = algorithm === "ed25519" ? ed25519.getPublicKey(key) : publicKeyOf(key);
    const signature = signK256(root.k256Key, utf8(`${purpose}:${toHex(publicKey)}`));
    const derived = {
      key,
      publicKey,
      signatureChain: [signature, root.k256Signature] as const,
    };
    if (cache.size >= MAX_CACHED) cache.delete(cache.keys().next().value!);
    cache.set(id, derived);
    return derived;
  };
}

function publicKeyOf(key: Uint8Array): Uint8Array {
  // HKDF output beyond the group order has chance 2^-128; no client could use it either.
  if (!secp256k1.utils.isValidSecretKey(key)) throw new AppError("internal", "No key at this path");
  return k256PublicKey(key);
}
