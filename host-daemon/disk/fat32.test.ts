import assert from "node:assert/strict";
import { execFileSync, spawnSync } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { utf8 } from "#core/bytes/bytes.ts";
import { fat32Image } from "./fat32.ts";
import { missing, writeImage } from "./image-file.fixture.ts";

const SIZE = 128 * 1024 * 1024;

test("mtools reads back every byte of a share volume", { skip: missing("mcopy") }, () => {
  const dir = mkdtempSync(join(tmpdir(), "fat32-"));
  try {
    const big = new Uint8Array(1_234_567).map((_, i) => (i * 31) & 0xff);
    const files = [
      { name: "app-compose.json", content: utf8('{"name":"hello"}') },
      { name: ".sys-config.json", content: utf8("x".repeat(513)) },
      { name: ".encrypted-env", content: big },
      { name: ".user-config", content: new Uint8Array(0) },
      { name: "exactly13char", content: utf8("13") },
    ];
    const image = join(dir, "shared.img");
    writeImage(image, fat32Image(files, { label: "DSTACKSHR", sizeBytes: SIZE, serial: 7 }), SIZE);
    for (const file of files) {
      const out = join(dir, "out");
      execFileSync("mcopy", ["-n", "-o", "-i", image, `::${file.name}`, out]);
      assert.deepEqual(new Uint8Array(readFileSync(out)), file.content, file.name);
    }
    const listing = execFileSync("mdir", ["-b", "-a", "-i", image, "::"]).toString();
    assert.equal(listing.trim().split("\n").length, files.length);
    assert.match(execFileSync("mlabel", ["-s", "-i", image, "::"]).toString(), /DSTACKSHR/);
  } finally {
    rmSync(dir, { recursive: true });
  }
});

test("fsck.vfat finds nothing to complain about", { skip: missing("fsck.vfat") }, () => {
  const dir = mkdtempSync(join(tmpdir(), "fat32-"));
  try {
    const image = join(dir, "shared.img");
    const files = [{ name: ".instance_info", content: new Uint8Array(70_000) }];
    writeImage(image, fat32Image(files, { label: "DSTACKSHR", sizeBytes: SIZE, serial: 7 }), SIZE);
    const { status, stdout } = spawnSync("fsck.vfat", ["-n", image], { encoding: "utf8" });
    assert.equal(status, 0, stdout);
  } finally {
    rmSync(dir, { recursive: true });
  }
});

test("files that do not fit, and names FAT cannot hold, are refused", () => {
  const options = { label: "DSTACKSHR", sizeBytes: SIZE, serial: 7 };
  const named = (name: string) => [{ name, content: utf8("x") }];
  assert.throws(
    () => fat32Image([{ name: "big", content: new Uint8Array(SIZE) }], options),
    { code: "input/too-large" },
  );
  for (const name of ["a/b", "", "nul\0", "dot."]) {
    assert.throws(() => fat32Image(named(name), options), { code: "input/malformed" }, name);
  }
  assert.throws(() => fat32Image([...named("A"), ...named("a")], options), {
    code: "input/malformed",
  });
});
