import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { mkdirSync, mkdtempSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { test } from "node:test";
import { encodeTarEntry, readTar, TAR_END, type TarEntry } from "./tar.ts";

const LONG = `${"folder/".repeat(20)}file`;

function withFolder(action: (folder: string) => void): void {
  const folder = mkdtempSync(`${tmpdir()}/tar-`);
  try {
    action(folder);
  } finally {
    rmSync(folder, { recursive: true });
  }
}

for (const format of ["pax", "gnu", "ustar"]) {
  test(`archives of GNU tar in ${format} format are read`, () =>
    withFolder((folder) => {
      mkdirSync(`${folder}/t/${"folder/".repeat(20)}`, { recursive: true });
      writeFileSync(`${folder}/t/${LONG}`, "content");
      symlinkSync("folder", `${folder}/t/link`);
      const archive = execFileSync("tar", [
        "-C",
        `${folder}/t`,
        `--format=${format}`,
        "-cf",
        "-",
        ".",
      ]);
      const entries = new Map([...readTar(archive)].map((entry) => [entry.path, entry]));
      assert.equal(new TextDecoder().decode(entries.get(LONG)?.content), "content");
      assert.deepEqual([entries.get("link")?.type, entries.get("link")?.target], [
        "symlink",
        "folder",
      ]);
      assert.equal(entries.get("folder")?.type, "directory");
    }));
}

test("GNU tar lists what was written", () =>
  withFolder((folder) => {
    const common = { mode: 0o640, uid: 0, gid: 101, target: "", content: new Uint8Array(0) };
    const entries: TarEntry[] = [
      { ...common, path: "etc", type: "directory", mode: 0o755 },
      { ...common, path: LONG, type: "file", content: new Uint8Array(513) },
      { ...common, path: "link", type: "symlink", target: LONG },
    ];
    const chunks = [...entries.flatMap((entry) => [...encodeTarEntry(entry, 86400)]), TAR_END];
    writeFileSync(`${folder}/a.tar`, Buffer.concat(chunks));
    const listing = execFileSync(
      "tar",
      ["--numeric-owner", "--utc", "--full-time", "-tvf", `${folder}/a.tar`],
      { encoding: "utf8", env: { ...process.env, LC_ALL: "C" } },
    );
    assert.deepEqual(listing.trim().split("\n").map((line) => line.replaceAll(/ +/g, " ")), [
      "drwxr-xr-x 0/101 0 1970-01-02 00:00:00 etc/",
      `-rw-r----- 0/101 513 1970-01-02 00:00:00 ${LONG}`,
      `lrw-r----- 0/101 0 1970-01-02 00:00:00 link -> ${LONG}`,
    ]);
  }));

test("an archive cut short is refused", () => {
  const entry: TarEntry = {
    path: "a",
    type: "file",
    mode: 0o644,
    uid: 0,
    gid: 0,
    target: "",
    content: new Uint8Array(2000),
  };
  const whole = Buffer.concat([...encodeTarEntry(entry, 0)]);
  assert.throws(() => [...readTar(whole.subarray(0, 1024))], { code: "input/malformed" });
});
