import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import {
  mkdirSync,
  mkdtempSync,
  readFileSync,
  rmSync,
  statSync,
  symlinkSync,
  truncateSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test, type TestContext } from "node:test";
import { copyHostFiles } from "./host-file-copy.ts";

interface Share {
  readonly share: string;
  readonly target: string;
}

function goodShare(t: TestContext): Share {
  const dir = mkdtempSync(join(tmpdir(), "share-"));
  t.after(() => rmSync(dir, { recursive: true }));
  const share = join(dir, "share");
  mkdirSync(share);
  writeFileSync(join(share, "app-compose.json"), "{}");
  writeFileSync(join(share, ".sys-config.json"), `{"vm_config":"{}"}`);
  return { share, target: join(dir, "work", ".host-shared") };
}

const refused = (message: RegExp) => ({ code: "guest/host-file", message });

test("copies what is there, each file 0600", async (t) => {
  const { share, target } = goodShare(t);
  writeFileSync(join(share, ".user-config"), "anything");
  const files = await copyHostFiles(share, target);
  assert.deepEqual([...files.keys()], ["app-compose.json", ".sys-config.json", ".user-config"]);
  assert.equal(readFileSync(join(target, ".user-config"), "utf8"), "anything");
  assert.equal(statSync(join(target, "app-compose.json")).mode & 0o777, 0o600);
  assert.equal(statSync(target).mode & 0o777, 0o700);
});

test("a second copy leaves nothing of the first", async (t) => {
  const { share, target } = goodShare(t);
  writeFileSync(join(share, ".encrypted-env"), "a long blob");
  await copyHostFiles(share, target);
  rmSync(join(share, ".encrypted-env"));
  writeFileSync(join(share, "app-compose.json"), "[]");
  const files = await copyHostFiles(share, target);
  assert.equal(files.has(".encrypted-env"), false);
  assert.throws(() => statSync(join(target, ".encrypted-env")), { code: "ENOENT" });
  assert.equal(readFileSync(join(target, "app-compose.json"), "utf8"), "[]");
});

test("refuses a share without a required file", async (t) => {
  const { share, target } = goodShare(t);
  rmSync(join(share, ".sys-config.json"));
  await assert.rejects(copyHostFiles(share, target), refused(/lacks \.sys-config\.json/));
});

test("refuses a symbolic link, to a file or to nothing", async (t) => {
  const { share, target } = goodShare(t);
  symlinkSync("/etc/hostname", join(share, ".user-config"));
  await assert.rejects(copyHostFiles(share, target), refused(/symbolic link/));
  rmSync(join(share, ".user-config"));
  symlinkSync("/nonexistent", join(share, ".user-config"));
  await assert.rejects(copyHostFiles(share, target), refused(/symbolic link/));
});

test("refuses a directory, a FIFO and a device without waiting on them", async (t) => {
  const { share, target } = goodShare(t);
  const path = join(share, ".user-config");
  mkdirSync(path);
  await assert.rejects(copyHostFiles(share, target), refused(/not a regular file/));
  rmSync(path, { recursive: true });
  execFileSync("mkfifo", [path]);
  await assert.rejects(copyHostFiles(share, target), refused(/not a regular file/));
  rmSync(path);
  try {
    execFileSync("mknod", [path, "c", "1", "5"], { stdio: "ignore" });
  } catch {
    t.diagnostic("skipped the device: making one needs root");
    return;
  }
  await assert.rejects(copyHostFiles(share, target), refused(/not a regular file/));
});

test("takes a file of exactly its limit and refuses one byte more", async (t) => {
  const { share, target } = goodShare(t);
  const path = join(share, ".instance_info");
  writeFileSync(path, "x".repeat(10 * 1024));
  assert.equal((await copyHostFiles(share, target)).get(".instance_info")?.length, 10 * 1024);
  writeFileSync(path, "x".repeat(10 * 1024 + 1));
  await assert.rejects(copyHostFiles(share, target), refused(/more than 10240 bytes/));
});

test("does not read a huge sparse file to its end", async (t) => {
  const { share, target } = goodShare(t);
  truncateSync(join(share, "app-compose.json"), 2 ** 40);
  await assert.rejects(copyHostFiles(share, target), refused(/more than 52428800 bytes/));
});
