import { sha256 } from "@noble/hashes/sha2.js";
import { x25519 } from "@noble/curves/ed25519.js";
import { AppError } from "../errors/app-error.ts";
import { deriveDhSecret, deriveKey, deriveP256 } from "./kdf.ts";
import { isK256Scalar, k256PublicKey, signK256 } from "./k256.ts";
import { encodeP256Pkcs8, type PublicPointOf } from "./p256.ts";
import { kmsIssuedMessage } from "./kms-signatures.ts";

/** The root keys of a KMS: P-256 CA scalar and secp256k1 scalar, 32 bytes each. */
export interface RootKeys {
  readonly caKey: Uint8Array;
  readonly k256Key: Uint8Array;
}

/** What a KMS releases to one instance of an app (kms.md 3.3). */
export interface AppKeys {
  /** 32 bytes; shared by all instances when the instance id is empty. */
  readonly diskCryptKey: Uint8Array;
  /** 32-byte X25519 secret, not clamped. */
  readonly envCryptKey: Uint8Array;
  /** 32-byte secp256k1 scalar. */
  readonly k256Key: Uint8Array;
  /** 65 bytes: the KMS root's signature over app id and public key. */
  readonly k256Signature: Uint8Array;
}

/** What makes many derivations faster; the answers are the same. */
export interface DerivationAids {
  readonly publicPointOf?: PublicPointOf;
  /** `k256Signature` of an app that was derived before from the same root, or undefined. */
  readonly knownSignature?: Uint8Array | undefined;
}

/** `appId`: 20 bytes; `instanceId`: 20 bytes or empty (no_instance_id). */
export function deriveAppKeys(
  root: RootKeys,
  appId: Uint8Array,
  instanceId: Uint8Array,
  { publicPointOf, knownSignature }: DerivationAids = {},
): AppKeys {
  requireAppId(appId);
  if (instanceId.length !== 20 && instanceId.length !== 0) {
    throw new AppError("input/malformed", "instance_id must be 20 bytes or empty");
  }
  const k256Key = deriveKey(root.k256Key, [appId, "app-key"], 32);
  if (!isK256Scalar(k256Key)) {
    throw new AppError("internal", "Derived key is not a secp256k1 scalar");
  }
  return {
    diskCryptKey: deriveDhSecret(
      root.caKey,
      [appId, instanceId, "app-disk-crypt-key"],
      publicPointOf,
    ),
    envCryptKey: deriveEnvKey(root.caKey, appId, publicPointOf),
    k256Key,
    k256Signature: knownSignature ??
      signK256(root.k256Key, kmsIssuedMessage(appId, k256PublicKey(k256Key))),
  };
}

/** The X25519 secret that decrypts an app's environment. `appId`: 20 bytes. */
export function deriveEnvKey(
  caKey: Uint8Array,
  appId: Uint8Array,
  publicPointOf?: PublicPointOf,
): Uint8Array {
  requireAppId(appId);
  return deriveDhSecret(caKey, [appId, "env-encrypt-key"], publicPointOf);
}

/** The X25519 public key of a secret: 32 bytes; clamping happens here. */
export function x25519PublicKey(secret: Uint8Array): Uint8Array {
  return x25519.getPublicKey(secret);
}

/** The scalar of the CA that signs certificates of one app. `appId`: 20 bytes. */
export function deriveAppCaKey(caKey: Uint8Array, appId: Uint8Array): Uint8Array {
  requireAppId(appId);
  return deriveP256(caKey, [appId, "app-ca"]);
}

/** The keys of an app without a KMS, from a 32-byte seed (key providers none, local, tpm). */
export interface SeededKeys {
  /** P-256 scalar of the self-signed local CA. */
  readonly appKey: Uint8Array;
  readonly diskCryptKey: Uint8Array;
  readonly k256Key: Uint8Array;
}

export function deriveSeededKeys(seed: Uint8Array): SeededKeys {
  return {
    appKey: deriveP256(seed, ["app-key"]),
    diskCryptKey: sha256(encodeP256Pkcs8(deriveP256(seed, ["app-disk-key"]))),
    k256Key: deriveKey(seed, ["app-k256-key"], 32),
  };
}

/** Contexts carry no lengths: another size would let two inputs share one key (kms.md 12.1). */
function requireAppId(appId: Uint8Array): void {
  if (appId.length !== 20) throw new AppError("input/malformed", "app_id must be 20 bytes");
}
