import assert from "node:assert/strict";
import { mkdtemp, readFile, rm, stat, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { openLogHeadFile } from "./log-head-file.ts";

const head = (size: number) => ({ size, chainHash: size.toString(16).padStart(64, "0") });

test("the newest head survives, also when the last write was torn", async () => {
  const directory = await mkdtemp(join(tmpdir(), "log-head-"));
  const path = join(directory, "release-log-head");
  const reopened = async () => {
    const file = await openLogHeadFile(directory);
    try {
      return await file.read();
    } finally {
      await file.close();
    }
  };
  try {
    assert.equal(await reopened(), undefined);
    assert.equal((await stat(path)).mode & 0o777, 0o600);
    for (const size of [1, 2, 3]) {
      const file = await openLogHeadFile(directory);
      await file.write(head(size));
      await file.close();
      assert.deepEqual(await reopened(), head(size));
    }
    const file = await openLogHeadFile(directory);
    for (const size of [4, 5, 6]) await file.write(head(size));
    await file.close();
    assert.deepEqual(await reopened(), head(6));
    const bytes = new Uint8Array(await readFile(path));
    assert.equal(bytes.length, 1024);
    for (const at of [0, 512]) {
      const torn = bytes.slice();
      torn.fill(0x20, at, at + 40);
      await writeFile(path, torn);
      assert.ok([5, 6].includes((await reopened())!.size));
    }
    await writeFile(path, "rubbish");
    await assert.rejects(reopened(), { code: "config/invalid" });
  } finally {
    await rm(directory, { recursive: true });
  }
});
