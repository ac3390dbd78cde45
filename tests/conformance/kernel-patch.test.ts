import assert from "node:assert/strict";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { test } from "node:test";
import { equalBytes, toHex } from "#core/bytes/bytes.ts";
import { patchKernel } from "#core/measurement/kernel-patch.ts";
import { bootableKernel } from "../fixtures/tdx-image.ts";
import { FrozenMachine, qemus } from "./qemu-fw-cfg.ts";

/** Kernel bytes that QEMU serves apart from the rest: boot sector and four more (fw_cfg.rst). */
const SETUP_DATA = 0x18;
const SETUP_LENGTH = 5 * 512;
const INITRD_LENGTH = 1_234_567;

const found = qemus();
if (found.length === 0) {
  test("the setup header is what QEMU makes of it", {
    skip: "skipped: no QEMU >= 10 (scripts/host-tools provides it)",
  }, () => {});
}
const cases = found.flatMap(({ path, release }) =>
  [512, 1024, 2048, 2815, 2816, 3072, 16384].map((mib) => ({ path, release, mib }))
);
for (const { path, release, mib } of cases) {
  const name = `the setup header is what QEMU ${release.join(".")} makes of it with ${mib} MiB`;
  test(name, async () => {
    const folder = mkdtempSync(`${tmpdir()}/kernel-patch-`);
    const kernel = bootableKernel(0x8000);
    writeFileSync(`${folder}/kernel`, kernel);
    writeFileSync(`${folder}/initrd`, new Uint8Array(INITRD_LENGTH));
    const boot = ["-kernel", `${folder}/kernel`, "-initrd", `${folder}/initrd`];
    const machine = new FrozenMachine(path, ["-machine", "q35", "-m", `${mib}M`, ...boot]);
    try {
      const served = await machine.readItem(SETUP_DATA, SETUP_LENGTH);
      const ours = patchKernel(kernel, INITRD_LENGTH, mib * 2 ** 20).subarray(0, SETUP_LENGTH);
      const header = (bytes: Uint8Array) => toHex(bytes.subarray(0x1f0, 0x270));
      assert.equal(header(served), header(ours));
      assert.ok(equalBytes(served, ours), "the rest of the setup code differs");
    } finally {
      await machine.stop();
      rmSync(folder, { recursive: true });
    }
  });
}
