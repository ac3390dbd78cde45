import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { readFileSync, realpathSync } from "node:fs";
import { test } from "node:test";
import { neededLibraries } from "./elf.ts";

function dynamicSection(path: string): string | undefined {
  try {
    return execFileSync("readelf", ["-d", path], { encoding: "utf8" });
  } catch {
    return undefined;
  }
}

test("the libraries of a program are those readelf names", (t) => {
  const path = realpathSync("/bin/sh");
  const listing = dynamicSection(path);
  if (listing === undefined) return t.skip("skipped: no readelf");
  const expected = [...listing.matchAll(/\(NEEDED\).*\[(.+)\]/g)].map((match) => match[1]!);
  assert.ok(expected.length > 0);
  assert.deepEqual(neededLibraries(readFileSync(path)), expected);
});

test("what is no ELF file has no answer", () => {
  assert.equal(neededLibraries(new TextEncoder().encode("#!/bin/sh\n".repeat(10))), undefined);
});
