import { fromHex, toHex, utf8 } from "../bytes/bytes.ts";
import { canonicalJson } from "../encoding/jcs.ts";
import { k256PublicKey, signK256, verifyK256 } from "./k256.ts";

/** The state of a release log; hashes are 32 bytes of hex. */
export interface TreeHead {
  readonly tree_size: number;
  /** Merkle root of the entries, RFC 6962. */
  readonly root_hash: string;
  /** Of the last entry in the hash chain. */
  readonly chain_hash: string;
  /** RFC 3339. */
  readonly timestamp: string;
}

export interface SignedTreeHead extends TreeHead {
  /** 33 bytes, compressed: the KMS's secp256k1 root. */
  readonly public_key: string;
  /** 65 bytes, as all signatures of that root. */
  readonly signature: string;
}

/** `k256Key`: 32-byte scalar of the KMS root. */
export function signTreeHead(k256Key: Uint8Array, head: TreeHead): SignedTreeHead {
  return {
    ...head,
    public_key: toHex(k256PublicKey(k256Key)),
    signature: toHex(signK256(k256Key, messageOf(head))),
  };
}

/** Throws `crypto/invalid-signature` unless `publicKey` (33 bytes) signed the head. */
export function verifyTreeHead(publicKey: Uint8Array, head: SignedTreeHead): void {
  verifyK256(publicKey, messageOf(head), fromHex(head.signature, "tree head signature", 65));
}

function messageOf({ tree_size, root_hash, chain_hash, timestamp }: TreeHead): Uint8Array {
  const text = canonicalJson({ tree_size, root_hash, chain_hash, timestamp });
  return utf8(`dstack-edge-kms-log-head:${text}`);
}
