import assert from "node:assert/strict";
import { test } from "node:test";
import { ModuleIndex } from "./kernel-modules.ts";

const DEP = `kernel/drivers/md/dm-mod.ko.xz:
kernel/drivers/md/dm-bufio.ko.xz: kernel/drivers/md/dm-mod.ko.xz
kernel/lib/reed_solomon/reed_solomon.ko.xz:
kernel/drivers/md/dm-verity.ko.xz: kernel/lib/reed_solomon/reed_solomon.ko.xz kernel/drivers/md/dm-bufio.ko.xz kernel/drivers/md/dm-mod.ko.xz
`;

test("what a module needs comes before it, once", () => {
  const order = new ModuleIndex(DEP).closure(["dm_verity", "dm-mod"]);
  assert.deepEqual(order, [
    "kernel/drivers/md/dm-mod.ko.xz",
    "kernel/drivers/md/dm-bufio.ko.xz",
    "kernel/lib/reed_solomon/reed_solomon.ko.xz",
    "kernel/drivers/md/dm-verity.ko.xz",
  ]);
});

test("a module the kernel does not have is named", () => {
  assert.throws(() => new ModuleIndex(DEP).closure(["dm-crypt"]), /dm-crypt/);
});
