import assert from "node:assert/strict";
import { mkdtemp, readdir, readFile, rm, stat, symlink, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, test } from "node:test";
import { isErrno, readFileBounded, readFileIfExists, writeFileAtomic } from "./files.ts";

const folder = await mkdtemp(join(tmpdir(), "files-"));
after(() => rm(folder, { recursive: true }));
const at = (name: string) => join(folder, name);

test("writeFileAtomic() makes files private by default and replaces them whole", async () => {
  await writeFileAtomic(at("key"), "first and longer");
  await writeFileAtomic(at("key"), Uint8Array.of(0x61));
  assert.equal(await readFile(at("key"), "utf8"), "a");
  assert.equal((await stat(at("key"))).mode & 0o777, 0o600);
});

test("writeFileAtomic() gives the mode asked for, whatever the umask", async () => {
  await writeFileAtomic(at("public"), "x", 0o666);
  assert.equal((await stat(at("public"))).mode & 0o777, 0o666);
});

test("writeFileAtomic() replaces a link instead of following it", async () => {
  await writeFile(at("target"), "untouched");
  await symlink(at("target"), at("link"));
  await writeFileAtomic(at("link"), "new");
  assert.equal(await readFile(at("target"), "utf8"), "untouched");
});

test("writeFileAtomic() leaves nothing behind when it fails", async () => {
  await assert.rejects(writeFileAtomic(at("none/file"), "x"), (error) => isErrno(error, "ENOENT"));
  await assert.rejects(writeFileAtomic(folder, "x"));
  const around = await readdir(join(folder, ".."));
  assert.deepEqual(
    around.filter((name) => folder.endsWith(name) || name.endsWith(".tmp")).length,
    1,
  );
});

test("readFileBounded() reads up to its limit", async () => {
  await writeFile(at("five"), "12345");
  assert.equal((await readFileBounded(at("five"), 5)).length, 5);
  await assert.rejects(readFileBounded(at("five"), 4), {
    code: "input/too-large",
    message: `Cannot read ${at("five")}: longer than 4 bytes`,
  });
});

test("readFileBounded() reads files that report no size", async () => {
  const content = await readFileBounded("/proc/self/status", 65536);
  assert.match(new TextDecoder().decode(content), /^Pid:\s+\d+$/m);
  await assert.rejects(readFileBounded("/dev/zero", 1000), { code: "input/too-large" });
});

test("a missing file is undefined or resource/not-found", async () => {
  assert.equal(await readFileIfExists(at("none"), 1), undefined);
  await assert.rejects(readFileBounded(at("none"), 1), { code: "resource/not-found" });
});
