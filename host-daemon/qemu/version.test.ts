import assert from "node:assert/strict";
import { test } from "node:test";
import { parseQemuVersion, requireQemu } from "./version.ts";

// Table of spec/vmm.md section 7.7, and what Debian prints.
const TABLE: [string, string][] = [
  ["QEMU emulator version 8.2.2 (Debian 1:8.2.2+ds-0ubuntu1.4)\nCopyright (c)", "8.2.2"],
  ["QEMU emulator version 8.2.2+ds-1", "8.2.2"],
  ["QEMU emulator version 9.0.0-rc1 (v9.0.0-rc1)", "9.0.0-rc1"],
  ["QEMU emulator version 7.2.17 (Debian 1:7.2+dfsg-7+deb12u13)", "7.2.17"],
  ["qemu-system-x86_64 10.1.2", "10.1.2"],
];
for (const [output, expected] of TABLE) {
  test(`reads ${expected} from '${output.slice(0, 40)}'`, () => {
    assert.equal(parseQemuVersion(output).text, expected);
  });
}

test("output without a version is refused with a reason code", () => {
  assert.throws(() => parseQemuVersion("no such command"), { code: "host/qemu-unusable" });
});

test("QEMU older than 10 is refused, 10 runs plain VMs, TDs need 10.1", () => {
  const version = (text: string) => parseQemuVersion(`QEMU emulator version ${text}`);
  assert.throws(() => requireQemu(version("9.2.4"), false), {
    code: "host/qemu-too-old",
    message: /QEMU 9\.2\.4 is too old: QEMU 10 or newer is needed/,
  });
  requireQemu(version("10.0.2"), false);
  assert.throws(() => requireQemu(version("10.0.2"), true), { code: "host/qemu-too-old" });
  requireQemu(version("10.1.0"), true);
  requireQemu(version("11.1.0"), true);
});
