import { sha256 } from "@noble/hashes/sha2.js";
import { concatBytes, equalBytes } from "../bytes/bytes.ts";
import { AppError } from "../errors/app-error.ts";

/**
 * The Merkle tree of RFC 6962 section 2.1 (RFC 9162 names its verification): SHA-256, leaves and nodes
 * in domains of their own, so that neither passes for the other.
 */

const LEAF = Uint8Array.of(0);
const NODE = Uint8Array.of(1);

export function leafHash(entry: Uint8Array): Uint8Array {
  return sha256(concatBytes(LEAF, entry));
}

export function nodeHash(left: Uint8Array, right: Uint8Array): Uint8Array {
  return sha256(concatBytes(NODE, left, right));
}

/** The root of a tree with these leaf hashes. */
export function merkleRoot(leaves: readonly Uint8Array[]): Uint8Array {
  if (leaves.length === 0) return sha256(new Uint8Array());
  if (leaves.length === 1) return leaves[0]!;
  const split = splitOf(leaves.length);
  return nodeHash(merkleRoot(leaves.slice(0, split)), merkleRoot(leaves.slice(split)));
}

/** The hash of leaves `start` to `end`, exclusive; at least one. */
export type Subtree = (start: number, end: number) => Promise<Uint8Array>;

/** The path of leaf `index` to the root of the first `size` leaves, RFC 6962 2.1.1. */
export async function inclusionProof(
  index: number,
  size: number,
  subtree: Subtree,
): Promise<Uint8Array[]> {
  if (!(index >= 0 && index < size)) throw outside(`No leaf ${index} in a tree of ${size}`);
  const path: Uint8Array[] = [];
  for (let start = 0, end = size; end - start > 1;) {
    const split = start + splitOf(end - start);
    if (index < split) {
      path.push(await subtree(split, end));
      end = split;
    } else {
      path.push(await subtree(start, split));
      start = split;
    }
  }
  return path.reverse();
}

/** What shows that a tree of `first` leaves is the start of one of `second`, RFC 6962 2.1.2. */
export async function consistencyProof(
  first: number,
  second: number,
  subtree: Subtree,
): Promise<Uint8Array[]> {
  if (!(first >= 1 && first <= second)) {
    throw outside(`A tree of ${second} leaves does not begin with one of ${first}`);
  }
  const proof: Uint8Array[] = [];
  let [start, end] = [0, second];
  /** Whether the old tree is the subtree reached so far and its root is known to the verifier. */
  let complete = true;
  while (first < end) {
    const split = start + splitOf(end - start);
    if (first <= split) {
      proof.push(await subtree(split, end));
      end = split;
    } else {
      proof.push(await subtree(start, split));
      start = split;
      complete = false;
    }
  }
  if (!complete) proof.push(await subtree(start, end));
  return proof.reverse();
}

/** Throws `crypto/invalid-signature` unless the leaf is in the tree with that root, RFC 9162 2.1.3.2. */
export function verifyInclusion(
  leaf: Uint8Array,
  index: number,
  size: number,
  proof: readonly Uint8Array[],
  root: Uint8Array,
): void {
  let [node, last] = [index, size - 1];
  if (!(index >= 0 && index < size)) throw wrong("inclusion");
  let hash = leaf;
  for (const sibling of proof) {
    if (last === 0) throw wrong("inclusion");
    if (node % 2 === 1 || node === last) {
      hash = nodeHash(sibling, hash);
      while (node % 2 === 0 && node !== 0) [node, last] = [node / 2, Math.floor(last / 2)];
    } else {
      hash = nodeHash(hash, sibling);
    }
    [node, last] = [Math.floor(node / 2), Math.floor(last / 2)];
  }
  if (last !== 0 || !equalBytes(hash, root)) throw wrong("inclusion");
}

/** Throws `crypto/invalid-signature` unless the first tree is the start of the second, RFC 9162 2.1.4.2. */
export function verifyConsistency(
  first: number,
  firstRoot: Uint8Array,
  second: number,
  secondRoot: Uint8Array,
  proof: readonly Uint8Array[],
): void {
  if (!(first >= 1 && first <= second)) throw wrong("consistency");
  if (first === second) {
    if (proof.length > 0 || !equalBytes(firstRoot, secondRoot)) throw wrong("consistency");
    return;
  }
  let [node, last] = [first - 1, second - 1];
  while (node % 2 === 1) [node, last] = [Math.floor(node / 2), Math.floor(last / 2)];
  // A whole left subtree is the old tree itself: its root is not repeated in the proof.
  const path = node === 0 ? [firstRoot, ...proof] : [...proof];
  const start = path.shift();
  if (start === undefined) throw wrong("consistency");
  let [oldHash, newHash] = [start, start];
  for (const sibling of path) {
    if (last === 0) throw wrong("consistency");
    if (node % 2 === 1 || node === last) {
      oldHash = nodeHash(sibling, oldHash);
      newHash = nodeHash(sibling, newHash);
      while (node % 2 === 0 && node !== 0) [node, last] = [node / 2, Math.floor(last / 2)];
    } else {
      newHash = nodeHash(newHash, sibling);
    }
    [node, last] = [Math.floor(node / 2), Math.floor(last / 2)];
  }
  if (last !== 0 || !equalBytes(oldHash, firstRoot) || !equalBytes(newHash, secondRoot)) {
    throw wrong("consistency");
  }
}

/** The largest power of two smaller than `size`, which is at least 2. */
export function splitOf(size: number): number {
  let split = 1;
  while (split * 2 < size) split *= 2;
  return split;
}

function outside(message: string): AppError {
  return new AppError("input/malformed", message);
}

function wrong(what: string): AppError {
  return new AppError("crypto/invalid-signature", `The ${what} proof does not hold`);
}
