import assert from "node:assert/strict";
import { test } from "node:test";
import { sha256 } from "@noble/hashes/sha2.js";
import { concatBytes, fromHex, toHex } from "../bytes/bytes.ts";
import { AppError } from "../errors/app-error.ts";
import { verifyVerity, verityHashAreaSize, VerityTreeBuilder } from "./verity.ts";

const fill = (byte: number) => new Uint8Array(4096).fill(byte);
const pattern = (blocks: number) =>
  Uint8Array.from({ length: blocks * 4096 }, (_, i) => i * 3 + (i >> 12));

// spec/os.md 8.3
test("the root of one and of two blocks", () => {
  assert.equal(
    toHex(new VerityTreeBuilder().update(fill(0x11)).finish().rootHash),
    "b77e5ef72815f38d7f85fdea6d4ae5cce99a3bac960775aeec640385b9f9e448",
  );
  assert.equal(
    toHex(new VerityTreeBuilder().update(fill(0x11)).update(fill(0x22)).finish().rootHash),
    "1aafb623d03a59e3dbb0381bea59a3882ef3822dce8938a3ed84686bdd7430ca",
  );
});

// veritysetup 2.6.1 format, --salt 64 zeros, --uuid 00000000-0000-0000-0000-000000000000
const VERITYSETUP = [
  {
    blocks: 5,
    root: "7ade9cd058284b9a5d6af54c42af9067c50b6a95d00efda05724c5e030633b39",
    hashArea: "587ee67dca140a578eea5efd1c099d6e00b66e4d7bd0df15fff0e0a6b333b22d",
    size: 8192,
  },
  {
    blocks: 130,
    root: "30bdbd4ca0757d6158da2736f2e6ba4367f4b6037c9a84cdb94b17d94d8b95ca",
    hashArea: "60778e63b9d647b60915cf56939623348173ba1db2cf2b36b1b7507a31bd8994",
    size: 16384,
  },
];

for (const { blocks, root, hashArea, size } of VERITYSETUP) {
  test(`superblock and tree of ${blocks} blocks are those of veritysetup`, () => {
    const data = pattern(blocks);
    const builder = new VerityTreeBuilder();
    // Pieces that never end where a block does.
    for (let at = 0; at < data.length; at += 5000) builder.update(data.subarray(at, at + 5000));
    const tree = builder.finish();
    assert.equal(toHex(tree.rootHash), root);
    assert.equal(toHex(sha256(tree.hashArea)), hashArea);
    assert.equal(tree.hashArea.length, size);
    assert.equal(verityHashAreaSize(data.length), size);
  });
}

test("data is padded with zeros to whole blocks", () => {
  const data = concatBytes(fill(1), fill(0).fill(2, 0, 100));
  const cut = new VerityTreeBuilder().update(data.subarray(0, 4196)).finish();
  assert.deepEqual(cut, new VerityTreeBuilder().update(data).finish());
});

test("a file is verified, and any flipped bit in data or tree is found", async () => {
  const { root, blocks } = VERITYSETUP[1]!;
  const data = pattern(blocks);
  const file = concatBytes(data, new VerityTreeBuilder().update(data).finish().hashArea);
  const expected = { rootHash: fromHex(root), dataSize: data.length };
  const open = (bytes: Uint8Array) => ({
    read: (offset: number, length: number) => Promise.resolve(bytes.slice(offset, offset + length)),
  });
  await verifyVerity(open(file), expected);
  for (
    const at of [0, 70_000, data.length - 1, data.length + 40, data.length + 4096, file.length - 1]
  ) {
    const flipped = file.slice();
    flipped[at]! ^= 1;
    await assert.rejects(
      verifyVerity(open(flipped), expected),
      (error) => error instanceof AppError && error.code === "measurement/image-mismatch",
    );
  }
  await assert.rejects(verifyVerity(open(file.subarray(0, -1)), expected), /ends before/);
});
