import assert from "node:assert/strict";
import { test } from "node:test";
import { BootLogScanner } from "./boot-log.ts";

test("a reason the guest prints is found across chunk borders", () => {
  const scanner = new BootLogScanner();
  assert.equal(scanner.push("[    1.2] virtio\r\ndstack-boot-err"), undefined);
  assert.deepEqual(scanner.push("or code=boot/no-share host share is missing\r\n"), {
    code: "boot/guest-reported",
    text: "boot/no-share: host share is missing",
  });
});

// Lines of drivers/md/dm-verity-target.c and kernel/panic.c.
test("dm-verity corruption outranks the panic that follows it", () => {
  const scanner = new BootLogScanner();
  scanner.push("[    3.141592] Kernel panic - not syncing: Attempted to kill init!\n");
  assert.equal(scanner.failure?.code, "boot/kernel-panic");
  const failure = scanner.push(
    "[    2.718281] device-mapper: verity: 254:1: data block 5 is corrupted\n",
  );
  assert.equal(failure?.code, "boot/rootfs-corrupt");
  assert.equal(
    failure?.text,
    "the root file system does not match its dm-verity hash (device-mapper: verity: 254:1: data block 5 is corrupted)",
  );
  scanner.push("[    2.8] Kernel panic - not syncing: dm-verity device corrupted\n");
  assert.equal(scanner.failure?.code, "boot/rootfs-corrupt");
});

test("ordinary output and endless lines explain nothing", () => {
  const scanner = new BootLogScanner();
  assert.equal(scanner.push("x".repeat(100_000)), undefined);
  assert.equal(scanner.push("\n[ 1.0] device-mapper: verity: sha256 using sha256-ni\n"), undefined);
});
