import assert from "node:assert/strict";
import { test } from "node:test";
import { BoundedMap } from "./bounded-map.ts";

test("what was not used for longest goes first", () => {
  const map = new BoundedMap<string, number>(2);
  map.set("a", 1);
  map.set("b", 2);
  assert.equal(map.get("a"), 1);
  map.set("c", 3);
  assert.equal(map.get("b"), undefined);
  assert.deepEqual([map.get("a"), map.get("c"), map.size], [1, 3, 2]);
  map.set("c", 4);
  assert.deepEqual([map.get("a"), map.get("c"), map.size], [1, 4, 2]);
});
