import assert from "node:assert/strict";
import { test } from "node:test";
import {
  folderOf,
  IMAGE_FILES,
  imageFolderFiles,
  imageHashOf,
} from "../../tests/fixtures/image-folder.ts";
import { simulatedCvm } from "../../tests/simulated-cvm.ts";
import { toHex } from "../bytes/bytes.ts";
import { AppError } from "../errors/app-error.ts";
import { MeasuredImage } from "../measurement/measure-image.ts";
import type { ImageFolder } from "../measurement/verified-image.ts";
import { parseVmConfig } from "../measurement/vm-config.ts";
import { appraise } from "./appraise.ts";
import { registersFromFolder } from "./image-registers.ts";

const NOW = new Date("2026-11-22T08:30:00Z");
const GIB = 2 ** 30;

/** A CVM of the legacy variant, which 1 GiB of memory needs, claiming `claims` of itself. */
async function legacyCvm(claims: Record<string, unknown> = {}) {
  const files = await imageFolderFiles();
  const launched = {
    os_image_hash: toHex(imageHashOf(files)),
    qemu_version: "10.0.0",
    cpu_count: 2,
    memory_size: GIB,
    hotplug_off: true,
    tdx_attestation_variant: "legacy",
    tdx_measurement: null,
  };
  const config = parseVmConfig(JSON.stringify(launched));
  return simulatedCvm({
    registers: await new MeasuredImage(IMAGE_FILES).measureVm(config),
    config: { ...launched, ...claims },
  });
}

async function verdictOf(cvm: Awaited<ReturnType<typeof legacyCvm>>, folder: ImageFolder) {
  return await appraise({
    attestation: cvm.attestation,
    collateral: cvm.platform.collateral(NOW),
    trustAnchors: [cvm.trustAnchor],
    reference: { registersOf: registersFromFolder(folder) },
    now: NOW,
  });
}

test("a legacy CVM is accepted by whoever has its image", async () => {
  const verdict = await verdictOf(await legacyCvm(), folderOf(await imageFolderFiles()));
  assert.equal(verdict.reason, null);
  const check = verdict.checks.find(({ id }) => id === "os-image")!;
  assert.equal(check.result, "passed");
  assert.equal(verdict.checks.find(({ id }) => id === "acpi-tables")!.result, "passed");
});

test("a legacy CVM that claims another shape or image is refused", async () => {
  const folder = folderOf(await imageFolderFiles());
  const cases: [string, Record<string, unknown>][] = [
    ["os-image-register-mismatch", { cpu_count: 3 }],
    ["os-image-register-mismatch", { memory_size: 2 * GIB }],
    ["os-image-register-mismatch", { hotplug_off: false }],
    ["os-image-register-mismatch", { qemu_version: "9.1.0" }],
    ["os-image-document-malformed", { swtpm: true }],
    ["os-image-document-malformed", { cpu_count: 0 }],
    ["os-image-document-malformed", { qemu_version: "seven" }],
    ["required-check-not-run", { os_image_hash: "00".repeat(32) }],
  ];
  for (const [code, claims] of cases) {
    const verdict = await verdictOf(await legacyCvm(claims), folder);
    assert.equal(verdict.reason?.code, code, JSON.stringify(claims));
  }
});

test("a folder that is not the image it lists is an error, not a verdict", async () => {
  const files = await imageFolderFiles();
  files.set("bzImage", new Uint8Array(10));
  await assert.rejects(
    verdictOf(await legacyCvm(), folderOf(files)),
    (error) => error instanceof AppError && error.code === "measurement/image-mismatch",
  );
});
