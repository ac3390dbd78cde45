import assert from "node:assert/strict";
import { test } from "node:test";
import { ByteWriter } from "./byte-writer.ts";

test("bytes() lands in the grown buffer", () => {
  const w = new ByteWriter();
  for (let i = 0; i < 40; i++) w.bytes(new Uint8Array(30).fill(i + 1));
  const written = w.finish();
  assert.equal(written.length, 1200);
  assert.ok(written.every((byte, at) => byte === Math.floor(at / 30) + 1));
});
