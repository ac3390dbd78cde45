import { ed25519 } from "@noble/curves/ed25519.js";
import { secp256k1 } from "@noble/curves/secp256k1.js";
import { AppError } from "#core/errors/app-error.ts";
import type { DeriveAppKey, KeyAlgorithm } from "./app-key.ts";

/** Sign uses an ordinary derived key; whoever may call GetKey may have it. */
const PATH = "vms";
const PURPOSE = "signing";

export type SignatureAlgorithm = "ed25519" | "secp256k1" | "secp256k1_prehashed";

export interface AppSignature {
  /** 64 bytes. */
  readonly signature: Uint8Array;
  readonly signatureChain: readonly Uint8Array[];
  readonly publicKey: Uint8Array;
}

/** Names of Sign and Verify (guest-agent.md 4.7); unlike in GetKey one must be given. */
export function parseSignatureAlgorithm(name: string): SignatureAlgorithm {
  if (name === "k256") return "secp256k1";
  if (name === "ed25519" || name === "secp256k1" || name === "secp256k1_prehashed") return name;
  throw new AppError("input/unsupported", "Unsupported algorithm");
}

export function signData(
  derive: DeriveAppKey,
  algorithm: SignatureAlgorithm,
  data: Uint8Array,
): AppSignature {
  if (algorithm === "secp256k1_prehashed" && data.length !== 32) {
    throw new AppError(
      "input/malformed",
      `Pre-hashed signing requires a 32-byte digest, got ${data.length} bytes`,
    );
  }
  const { key, publicKey, signatureChain } = derive(PATH, PURPOSE, keyAlgorithmOf(algorithm));
  const signature = algorithm === "ed25519"
    ? ed25519.sign(data, key)
    : secp256k1.sign(data, key, { prehash: algorithm === "secp256k1", lowS: true });
  return { signature, publicKey, signatureChain: [signature, ...signatureChain] };
}

export function keyAlgorithmOf(algorithm: SignatureAlgorithm): KeyAlgorithm {
  return algorithm === "ed25519" ? "ed25519" : "secp256k1";
}

/** False for a signature that does not fit; malformed input throws `input/malformed`. */
export function isSignatureValid(
  algorithm: SignatureAlgorithm,
  data: Uint8Array,
  signature: Uint8Array,
  publicKey: Uint8Array,
): boolean {
  if (signature.length !== 64) throw malformed(`Signature has ${signature.length} bytes, not 64`);
  if (algorithm === "ed25519") {
    requirePoint(() => ed25519.Point.fromBytes(publicKey));
    return ed25519.verify(signature, data, publicKey);
  }
  requirePoint(() => secp256k1.Point.fromBytes(publicKey));
  try {
    secp256k1.Signature.fromBytes(signature);
  } catch (cause) {
    throw malformed("Signature is out of range", cause);
  }
  if (algorithm === "secp256k1") return secp256k1.verify(signature, data, publicKey);
  // Shorter digests than half the group's size are no digests (FIPS 186-5 and the reference).
  if (data.length < 16) return false;
  return secp256k1.verify(signature, data, publicKey, { prehash: false });
}

function requirePoint(parse: () => unknown): void {
  try {
    parse();
  } catch (cause) {
    throw malformed("Public key is not a point of the curve", cause);
  }
}

function malformed(why: string, cause?: unknown): AppError {
  return new AppError("input/malformed", why, { cause });
}
