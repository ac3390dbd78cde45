import { sha256 } from "@noble/hashes/sha2.js";
import { ByteWriter } from "../bytes/byte-writer.ts";
import { concatBytes, equalBytes, toHex } from "../bytes/bytes.ts";
import { AppError } from "../errors/app-error.ts";

/** Data and hash blocks alike, in bytes. */
export const VERITY_BLOCK = 4096;

const DIGEST = 32;
const DIGESTS_PER_BLOCK = VERITY_BLOCK / DIGEST;
const SALT = new Uint8Array(32);
const UUID = new Uint8Array(16);

/** Hashes many small blocks, so a runtime's native SHA-256 may be put here. */
export type Sha256 = (bytes: Uint8Array) => Uint8Array;

export interface VerityTree {
  /** 32 bytes; what the kernel command line commits to. */
  readonly rootHash: Uint8Array;
  /** Superblock and hash tree, as appended right after the data. */
  readonly hashArea: Uint8Array;
}

/**
 * dm-verity format 1 over data that arrives in pieces: sha256, 4096-byte blocks, a salt of 32 zero
 * bytes and a zero UUID (spec/os.md 1.6), so the same data always has the same tree.
 */
export class VerityTreeBuilder {
  readonly #sha256: Sha256;
  readonly #salted = concatBytes(SALT, new Uint8Array(VERITY_BLOCK));
  readonly #leaves = new ByteWriter();
  #filled = 0;
  #blocks = 0;

  constructor(hash: Sha256 = sha256) {
    this.#sha256 = hash;
  }

  /** Takes the next piece of data, of any length. */
  update(piece: Uint8Array): this {
    let at = 0;
    while (at < piece.length) {
      const taken = piece.subarray(at, at + VERITY_BLOCK - this.#filled);
      this.#salted.set(taken, SALT.length + this.#filled);
      this.#filled += taken.length;
      at += taken.length;
      if (this.#filled === VERITY_BLOCK) this.#endBlock();
    }
    return this;
  }

  /** Pads the data with zeros to whole blocks, as the file must be padded too. */
  finish(): VerityTree {
    if (this.#filled > 0) {
      this.#salted.fill(0, SALT.length + this.#filled);
      this.#endBlock();
    }
    if (this.#blocks === 0) throw new TypeError("dm-verity needs at least one block of data");
    const levels: Uint8Array[] = []; // the lowest first
    let digests = this.#leaves.finish();
    while (digests.length > DIGEST) {
      const level = padToBlock(digests);
      levels.push(level);
      digests = this.#digestsOf(level);
    }
    const superblock = encodeSuperblock(this.#blocks);
    // On disk the top level comes first.
    return { rootHash: digests, hashArea: concatBytes(superblock, ...levels.toReversed()) };
  }

  #endBlock(): void {
    this.#leaves.bytes(this.#sha256(this.#salted));
    this.#blocks++;
    this.#filled = 0;
  }

  #digestsOf(level: Uint8Array): Uint8Array {
    const digests = new ByteWriter();
    for (let at = 0; at < level.length; at += VERITY_BLOCK) {
      const block = level.subarray(at, at + VERITY_BLOCK);
      digests.bytes(this.#sha256(concatBytes(SALT, block)));
    }
    return digests.finish();
  }
}

/** Bytes of superblock and tree for `dataBytes` of data. */
export function verityHashAreaSize(dataBytes: number): number {
  let blocks = Math.ceil(dataBytes / VERITY_BLOCK);
  let total = 1; // the superblock
  while (blocks > 1) {
    blocks = Math.ceil(blocks / DIGESTS_PER_BLOCK);
    total += blocks;
  }
  return total * VERITY_BLOCK;
}

/** A device or file that holds data followed by its hash area. */
export interface VerityFile {
  readonly read: (offset: number, length: number) => Promise<Uint8Array>;
}

/**
 * Reads all data and requires that its tree has `rootHash` and stands, byte for byte, behind it.
 * Throws `measurement/image-mismatch`.
 */
export async function verifyVerity(
  file: VerityFile,
  expected: { readonly rootHash: Uint8Array; readonly dataSize: number },
  hash: Sha256 = sha256,
): Promise<void> {
  const { rootHash, dataSize } = expected;
  if (dataSize <= 0 || dataSize % VERITY_BLOCK !== 0) {
    throw mismatch(`its data size ${dataSize} is not a multiple of 4096`);
  }
  const builder = new VerityTreeBuilder(hash);
  const step = 256 * VERITY_BLOCK;
  for (let at = 0; at < dataSize; at += step) {
    builder.update(await readExactly(file, at, Math.min(step, dataSize - at)));
  }
  const tree = builder.finish();
  if (!equalBytes(tree.rootHash, rootHash)) {
    throw mismatch(`its dm-verity root is ${toHex(tree.rootHash)}, expected ${toHex(rootHash)}`);
  }
  const stored = await readExactly(file, dataSize, tree.hashArea.length);
  if (!equalBytes(stored, tree.hashArea)) throw mismatch("its hash tree is not that of its data");
}

async function readExactly(file: VerityFile, offset: number, length: number): Promise<Uint8Array> {
  const bytes = await file.read(offset, length);
  if (bytes.length !== length) throw mismatch(`it ends before byte ${offset + length}`);
  return bytes;
}

/** struct verity_sb of cryptsetup's lib/verity/verity.c, in a hash block of its own. */
function encodeSuperblock(dataBlocks: number): Uint8Array {
  const w = new ByteWriter().utf8("verity\0\0").u32le(1).u32le(1).bytes(UUID);
  w.utf8("sha256").zeros(26).u32le(VERITY_BLOCK).u32le(VERITY_BLOCK).u64le(BigInt(dataBlocks));
  w.u16le(SALT.length).zeros(6).bytes(SALT);
  return w.zeros(VERITY_BLOCK - w.length).finish();
}

function padToBlock(bytes: Uint8Array): Uint8Array {
  const padded = new Uint8Array(Math.ceil(bytes.length / VERITY_BLOCK) * VERITY_BLOCK);
  padded.set(bytes);
  return padded;
}

function mismatch(why: string): AppError {
  return new AppError("measurement/image-mismatch", `Root file system refused: ${why}`);
}
