import assert from "node:assert/strict";
import { test } from "node:test";
import { qemuMajorVersion } from "./qemu-version.ts";

test("the major version is read from what distributions print", () => {
  const debian12 = "QEMU emulator version 7.2.17 (Debian 1:7.2+dfsg-7+deb12u13)\nCopyright (c)";
  assert.equal(qemuMajorVersion(debian12), 7);
  assert.equal(
    qemuMajorVersion("QEMU emulator version 11.1.3 (Debian 1:11.1.3+ds-1~bpo13+1)\n"),
    11,
  );
  assert.equal(qemuMajorVersion("ls (GNU coreutils) 9.1"), undefined);
});
