import assert from "node:assert/strict";
import { readdirSync, readFileSync } from "node:fs";
import { test } from "node:test";
import {
  describeLockChanges,
  encodePackageLock,
  encodeSourceLock,
  type PackageLock,
  parsePackageLock,
  parseSourceLock,
} from "./lock.ts";
import { PACKAGE_SETS } from "./package-set.ts";

const LOCK: PackageLock = {
  schema: 1,
  set: "dev",
  resolvedAt: "20261122T083918Z",
  roots: ["bash"],
  packages: [
    {
      name: "bash",
      version: "5.2.37-2+b10",
      architecture: "amd64",
      archive: "debian",
      filename: "pool/main/b/bash/bash_5.2.37-2+b10_amd64.deb",
      size: 1500792,
      sha256: "ab".repeat(32),
    },
    {
      name: "libc6",
      version: "2.41-12+deb13u4",
      architecture: "amd64",
      archive: "debian-security",
      filename: "pool/updates/main/g/glibc/libc6_2.41-12+deb13u4_amd64.deb",
      size: 2846580,
      sha256: "cd".repeat(32),
    },
  ],
};

function withFirst(changes: Record<string, unknown>): string {
  return JSON.stringify({ ...LOCK, packages: [{ ...LOCK.packages[0], ...changes }] });
}

test("a lock survives being written and read", () => {
  assert.deepEqual(parsePackageLock(encodePackageLock(LOCK)), LOCK);
});

test("packages are written in the order of their names", () => {
  const shuffled = { ...LOCK, packages: LOCK.packages.toReversed() };
  assert.equal(encodePackageLock(shuffled), encodePackageLock(LOCK));
});

for (
  const [what, text] of [
    ["text that is not JSON", "{"],
    ["another schema", JSON.stringify({ ...LOCK, schema: 2 })],
    [
      "a package twice",
      JSON.stringify({ ...LOCK, packages: [LOCK.packages[0], LOCK.packages[0]] }),
    ],
    ["packages out of order", JSON.stringify({ ...LOCK, packages: LOCK.packages.toReversed() })],
    ["a path out of the pool", withFirst({ filename: "pool/main/../../etc/x.deb" })],
    ["an absolute path", withFirst({ filename: "/pool/main/b/bash.deb" })],
    ["an address for a path", withFirst({ filename: "http://other/pool/x.deb" })],
    ["a short digest", withFirst({ sha256: "abcd" })],
    ["an upper-case digest", withFirst({ sha256: "AB".repeat(32) })],
    ["a size of nothing", withFirst({ size: 0 })],
    ["another architecture", withFirst({ architecture: "arm64" })],
    ["an unknown archive", withFirst({ archive: "ubuntu" })],
    ["an option for a name", withFirst({ name: "-o" })],
    ["a date in another form", JSON.stringify({ ...LOCK, resolvedAt: "2026-11-22" })],
  ] as const
) {
  test(`a lock with ${what} is refused`, () => {
    assert.throws(() => parsePackageLock(text), { code: "input/malformed" });
  });
}

test("changes name what came, went, moved and was replaced", () => {
  const [bash, libc6] = LOCK.packages as [typeof LOCK.packages[0], typeof LOCK.packages[0]];
  const after: PackageLock = {
    ...LOCK,
    packages: [
      { ...bash!, version: "5.3-1" },
      { ...libc6!, name: "zlib1g" },
    ],
  };
  assert.deepEqual(describeLockChanges(LOCK, after), [
    "~ bash 5.2.37-2+b10 -> 5.3-1",
    "+ zlib1g 2.41-12+deb13u4",
    "- libc6 2.41-12+deb13u4",
  ]);
});

test("every package set has a committed lock for its present roots", () => {
  const folder = new URL("lock/", import.meta.url);
  const expected = [...PACKAGE_SETS.map((set) => set.name), "firmware-source"];
  assert.deepEqual(readdirSync(folder).sort(), expected.map((name) => `${name}.json`).sort());
  for (const set of PACKAGE_SETS) {
    const lock = parsePackageLock(readFileSync(new URL(`${set.name}.json`, folder), "utf8"));
    assert.equal(lock.set, set.name);
    assert.deepEqual(lock.roots, set.roots, `run: node guest/os/main.ts lock ${set.name}`);
  }
});

test("the firmware's source is edk2 2025.02, whose events verifiers know", () => {
  const text = readFileSync(new URL("lock/firmware-source.json", import.meta.url), "utf8");
  const lock = parseSourceLock(text);
  assert.equal(lock.source, "edk2");
  assert.match(lock.version, /^2025\.02-/);
  assert.equal(encodeSourceLock(lock), text);
});
