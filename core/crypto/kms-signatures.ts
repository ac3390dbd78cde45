import { concatBytes, utf8 } from "../bytes/bytes.ts";
import { AppError } from "../errors/app-error.ts";
import { recoverK256 } from "./k256.ts";
import { ByteWriter } from "../bytes/byte-writer.ts";

/** What the KMS root signs for an app key: app id (20 bytes) and compressed key (33 bytes). */
export function kmsIssuedMessage(appId: Uint8Array, publicKey: Uint8Array): Uint8Array {
  return concatBytes(utf8("dstack-kms-issued:"), appId, publicKey);
}

/**
 * What the KMS root signs for an app's environment key (kms.md 8.2). With a timestamp (unix seconds)
 * it is the v1 form, without one the legacy form, which cannot tell an old answer from a new one.
 */
export function envPublicKeyMessage(
  appId: Uint8Array,
  publicKey: Uint8Array,
  timestamp?: bigint,
): Uint8Array {
  const message = new ByteWriter().utf8("dstack-env-encrypt-pubkey:").bytes(appId);
  if (timestamp !== undefined) message.u64be(timestamp);
  return message.bytes(publicKey).finish();
}

export interface SignedEnvPublicKey {
  readonly publicKey: Uint8Array;
  /** v1 signature, 65 bytes. */
  readonly signature: Uint8Array;
  /** Unix seconds. */
  readonly timestamp: bigint;
}

/** A client's clock may be this far behind the KMS, and an answer at most this old. */
const MAX_CLOCK_LEAD_S = 60n;
const MAX_AGE_S = 300n;

/**
 * The compressed key that signed an environment key, after checking its age at `now`. The caller
 * compares it with the KMS root it trusts. Throws `crypto/invalid-signature`.
 */
export function recoverEnvPublicKeySigner(
  signed: SignedEnvPublicKey,
  appId: Uint8Array,
  now: Date,
): Uint8Array {
  const age = BigInt(Math.floor(now.getTime() / 1000)) - signed.timestamp;
  if (age < -MAX_CLOCK_LEAD_S || age > MAX_AGE_S) {
    throw new AppError("crypto/invalid-signature", `Environment key was signed ${age} s ago`);
  }
  return recoverK256(
    signed.signature,
    envPublicKeyMessage(appId, signed.publicKey, signed.timestamp),
  );
}
