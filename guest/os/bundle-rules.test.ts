import assert from "node:assert/strict";
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { test } from "node:test";
import { bundleGuest } from "./adapters/guest-bundle.ts";
import { checkBundle, SIMULATION_MARKS } from "./bundle-rules.ts";

test("a production bundle with code of the simulated TEE is refused", () => {
  const bundle = SIMULATION_MARKS.join("\n");
  assert.throws(() => checkBundle("prod", bundle), { code: "os-build/image-invalid" });
  checkBundle("dev", bundle);
});

test("a development bundle without its marks is refused", () => {
  assert.throws(() => checkBundle("dev", "export {}"), { code: "os-build/image-invalid" });
  checkBundle("prod", "export {}");
});

test("the guest's own program follows the rules in both flavours", async () => {
  const folder = mkdtempSync(`${tmpdir()}/bundle-`);
  try {
    const root = new URL("../..", import.meta.url).pathname;
    for (const flavour of ["dev", "prod"] as const) {
      const path = await bundleGuest(root, folder, flavour);
      assert.ok(readFileSync(path).length > 100_000);
    }
  } finally {
    rmSync(folder, { recursive: true });
  }
});
