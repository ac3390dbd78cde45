import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { fromHex, toHex } from "../bytes/bytes.ts";
import {
  consistencyProof,
  inclusionProof,
  leafHash,
  merkleRoot,
  type Subtree,
  verifyConsistency,
  verifyInclusion,
} from "./merkle-tree.ts";

// Entries and roots of the reference tests of Certificate Transparency.
const ENTRIES = [
  "",
  "00",
  "10",
  "2021",
  "3031",
  "40414243",
  "5051525354555657",
  "606162636465666768696a6b6c6d6e6f",
].map((hex) => fromHex(hex));
const ROOTS = [
  "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
  "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
  "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
  "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
  "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
  "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
  "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
  "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
  "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
];
const LEAVES = ENTRIES.map(leafHash);

const subtreeOf = (leaves: readonly Uint8Array[]): Subtree => (start, end) =>
  Promise.resolve(merkleRoot(leaves.slice(start, end)));

test("roots are those of Certificate Transparency", () => {
  for (const [size, root] of ROOTS.entries()) {
    assert.equal(toHex(merkleRoot(LEAVES.slice(0, size))), root, `${size} leaves`);
  }
});

test("proofs are those of Certificate Transparency", async () => {
  const subtree = subtreeOf(LEAVES);
  const hex = (proof: Uint8Array[]) => proof.map(toHex);
  assert.deepEqual(hex(await inclusionProof(0, 8, subtree)), [
    "96a296d224f285c67bee93c30f8a309157f0daa35dc5b87e410b78630a09cfc7",
    "5f083f0a1a33ca076a95279832580db3e0ef4584bdff1f54c8a360f50de3031e",
    "6b47aaf29ee3c2af9af889bc1fb9254dabd31177f16232dd6aab035ca39bf6e4",
  ]);
  assert.deepEqual(hex(await consistencyProof(6, 8, subtree)), [
    "0ebc5d3437fbe2db158b9f126a1d118e308181031d0a949f8dededebc558ef6a",
    "ca854ea128ed050b41b35ffc1b87b8eb2bde461e9e3b5596ece6b9d5975a0ae0",
    "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
  ]);
  assert.deepEqual(await consistencyProof(1, 1, subtree), []);
});

const leaves = fc.array(fc.uint8Array({ minLength: 32, maxLength: 32 }), {
  minLength: 1,
  maxLength: 70,
});

test("what a proof shows holds for it alone", async () => {
  await fc.assert(
    fc.asyncProperty(leaves, fc.nat(), fc.nat(), async (leaves, a, b) => {
      const subtree = subtreeOf(leaves);
      const size = leaves.length;
      const root = merkleRoot(leaves);
      const index = a % size;
      const path = await inclusionProof(index, size, subtree);
      verifyInclusion(leaves[index]!, index, size, path, root);
      const refused = { code: "crypto/invalid-signature" };
      const other = leaves[index]!.with(0, leaves[index]![0]! ^ 1);
      assert.throws(() => verifyInclusion(other, index, size, path, root), refused);
      const longer = [...path, root];
      assert.throws(() => verifyInclusion(leaves[index]!, index, size, longer, root), refused);
      assert.throws(() => verifyInclusion(leaves[index]!, size, size, path, root), refused);

      const first = b % size + 1;
      const firstRoot = merkleRoot(leaves.slice(0, first));
      const proof = await consistencyProof(first, size, subtree);
      verifyConsistency(first, firstRoot, size, root, proof);
      const edited = firstRoot.with(0, firstRoot[0]! ^ 1);
      assert.throws(() => verifyConsistency(first, edited, size, root, proof), refused);
      const more = [...proof, root];
      assert.throws(() => verifyConsistency(first, firstRoot, size, root, more), refused);
      assert.throws(() => verifyConsistency(size + 1, firstRoot, size, root, proof), refused);
    }),
    { numRuns: 200 },
  );
});

test("a proof about a tree that is not there is refused", async () => {
  const subtree = subtreeOf(LEAVES);
  for (const [index, size] of [[-1, 8], [8, 8], [0, 0], [Number.NaN, 8]] as const) {
    await assert.rejects(inclusionProof(index, size, subtree), { code: "input/malformed" });
  }
  for (const [first, second] of [[0, 8], [9, 8], [Number.NaN, 8]] as const) {
    await assert.rejects(consistencyProof(first, second, subtree), { code: "input/malformed" });
  }
});
