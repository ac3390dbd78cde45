import assert from "node:assert/strict";
import { test } from "node:test";
import { rootfsCommitmentOf } from "#core/measurement/image-manifest.ts";
import { kernelCommandLine } from "./cmdline.ts";

const HASH = "ab".repeat(32);

/** spec/os.md 1.4, in its order. */
const REFERENCE =
  "console=ttyS0 init=/init panic=1 net.ifnames=0 biosdevname=0 mce=off oops=panic " +
  "pci=noearly pci=nommconf random.trust_cpu=y random.trust_bootloader=n tsc=reliable no-kvmclock";

test("the command line starts with the reference's words and names the root", () => {
  const cmdline = kernelCommandLine("dev", HASH, 8192);
  assert.ok(cmdline.startsWith(`${REFERENCE} `));
  assert.deepEqual(rootfsCommitmentOf(cmdline), { rootHash: HASH, dataSize: 8192 });
  assert.doesNotMatch(cmdline, / {2}|\n/);
});

test("only a development image may use the simulated TEE and drop what hardens the kernel", () => {
  const words = (flavour: "dev" | "prod") => kernelCommandLine(flavour, HASH, 4096).split(" ");
  const own = (flavour: "dev" | "prod", other: "dev" | "prod") =>
    words(flavour).filter((word) => !words(other).includes(word));
  assert.deepEqual(own("dev", "prod"), ["dstack.tee=sim", "mitigations=off", "init_on_alloc=0"]);
  assert.deepEqual(own("prod", "dev"), ["dstack.tee=tdx"]);
});

for (
  const [hash, size] of [["ab", 4096], [HASH.toUpperCase(), 4096], [HASH, 0], [HASH, 4097]] as const
) {
  test(`a root of hash ${hash.slice(0, 4)}… and ${size} bytes is refused`, () => {
    assert.throws(() => kernelCommandLine("dev", hash, size), { code: "os-build/image-invalid" });
  });
}
