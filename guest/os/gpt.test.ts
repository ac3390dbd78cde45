import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { test } from "node:test";
import { gptFrame } from "./gpt.ts";

const MEBIBYTE = 1024 * 1024;

function hasTool(name: string): boolean {
  try {
    execFileSync(name, ["--version"], { stdio: "ignore" });
    return true;
  } catch {
    return false;
  }
}

test("the partition starts at 1 MiB and the disk is whole mebibytes", () => {
  for (const length of [4096, MEBIBYTE, MEBIBYTE + 4096]) {
    const { before, after } = gptFrame(length);
    assert.equal(before.length, MEBIBYTE);
    assert.equal(
      before.length + length + after.length,
      (Math.ceil(length / MEBIBYTE) + 2) * MEBIBYTE,
    );
  }
});

test(
  "sfdisk reads the table as the reference writes it",
  { skip: hasTool("sfdisk") ? false : "skipped: no sfdisk" },
  () => {
    const folder = mkdtempSync(`${tmpdir()}/gpt-`);
    try {
      const { before, after } = gptFrame(5000);
      const disk = `${folder}/disk`;
      writeFileSync(disk, Buffer.concat([before, new Uint8Array(5000), after]));
      const text = execFileSync("sfdisk", ["--json", disk], { encoding: "utf8" });
      const { partitiontable: table } = JSON.parse(text);
      assert.equal(table.label, "gpt");
      assert.equal(table.id, "D5ACC000-0000-4000-8000-000000000000");
      assert.equal(table.partitions.length, 1);
      const [partition] = table.partitions;
      assert.equal(partition.start, 2048);
      assert.equal(partition.size, 2048);
      assert.equal(partition.type, "0FC63DAF-8483-4772-8E79-3D69D8477DE4");
      assert.equal(partition.uuid, "D5ACC000-0000-4000-8000-000000000001");
      assert.equal(partition.name, "dstack-rootfs");
      execFileSync("sfdisk", ["--verify", disk], { stdio: "ignore" });
    } finally {
      rmSync(folder, { recursive: true });
    }
  },
);
