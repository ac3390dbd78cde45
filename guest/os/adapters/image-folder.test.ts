import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { test } from "node:test";
import { type RootDisk, writeImageFolder } from "./image-folder.ts";

const FILES = new Map([["metadata.json", new TextEncoder().encode("{}")]]);

async function withFolder(action: (folder: string) => Promise<void>): Promise<void> {
  const folder = mkdtempSync(`${tmpdir()}/image-`);
  try {
    await action(folder);
  } finally {
    rmSync(folder, { recursive: true });
  }
}

function rootDisk(folder: string, megabytes: number): RootDisk {
  const size = megabytes * 1024 * 1024;
  const path = `${folder}/root.verity`;
  writeFileSync(path, new Uint8Array(size).fill(7));
  return { name: "rootfs.img", root: { path, rootHash: "", dataSize: size, size } };
}

test("a folder is written once and left alone when it is right", () =>
  withFolder(async (folder) => {
    const disk = rootDisk(folder, 1);
    assert.equal(await writeImageFolder(`${folder}/out`, "dstack-1", FILES, disk), true);
    assert.deepEqual(readdirSync(`${folder}/out`), ["dstack-1"]);
    assert.deepEqual(readdirSync(`${folder}/out/dstack-1`), ["metadata.json", "rootfs.img"]);
    assert.equal(await writeImageFolder(`${folder}/out`, "dstack-1", FILES, disk), false);
  }));

for (const file of ["metadata.json", "rootfs.img"]) {
  test(`a folder with one changed byte in ${file} is made anew`, () =>
    withFolder(async (folder) => {
      const disk = rootDisk(folder, 1);
      await writeImageFolder(`${folder}/out`, "dstack-1", FILES, disk);
      const path = `${folder}/out/dstack-1/${file}`;
      const good = readFileSync(path);
      const bad = new Uint8Array(good);
      bad[1]! ^= 1;
      writeFileSync(path, bad);
      assert.equal(await writeImageFolder(`${folder}/out`, "dstack-1", FILES, disk), true);
      assert.deepEqual(readFileSync(path), good);
    }));
}

test("what a killed build left is removed", () =>
  withFolder(async (folder) => {
    // Process ids are at most 2^22 (proc(5), pid_max).
    mkdirSync(`${folder}/out/.building-dstack-1.4194305`, { recursive: true });
    await writeImageFolder(`${folder}/out`, "dstack-1", FILES, rootDisk(folder, 1));
    assert.deepEqual(readdirSync(`${folder}/out`), ["dstack-1"]);
  }));

test("a full disk leaves no folder that could be used", (t) =>
  withFolder(async (folder) => {
    const out = `${folder}/out`;
    mkdirSync(out);
    try {
      execFileSync("mount", ["-t", "tmpfs", "-o", "size=2m", "tmpfs", out], { stdio: "ignore" });
    } catch {
      return t.skip("skipped: cannot mount a small file system");
    }
    try {
      const writing = writeImageFolder(out, "dstack-1", FILES, rootDisk(folder, 4));
      await assert.rejects(writing, { code: "ENOSPC" });
      assert.deepEqual(readdirSync(out), []);
    } finally {
      execFileSync("umount", [out]);
    }
  }));
