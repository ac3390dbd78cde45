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
import { type AppraisalInput, appraise } from "./appraise.ts";
import type { TdxEvidence } from "./attestation.ts";
import { registersFromFolder } from "./image-registers.ts";
import { policyWith } from "./policy.ts";
import type { Reference } from "./reference.ts";

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

test("no image is looked up for evidence that is not genuine, or for one nobody expects", async () => {
  const cvm = await legacyCvm();
  const asked: string[] = [];
  const registersOf = (config: { osImageHash: Uint8Array }) => {
    asked.push(toHex(config.osImageHash));
    return Promise.resolve(undefined);
  };
  const judge = (changes: Partial<AppraisalInput>, reference: Reference = {}) =>
    appraise({
      attestation: cvm.attestation,
      collateral: cvm.platform.collateral(NOW),
      trustAnchors: [cvm.trustAnchor],
      now: NOW,
      ...changes,
      reference: { ...reference, registersOf },
    });
  const { platform } = cvm.attestation;
  assert.equal(platform.kind, "tdx");
  const quote = new Uint8Array((platform as TdxEvidence).quote);
  quote[48 + 16]! ^= 1; // TEE_TCB_SVN is followed by MRSEAM
  const forged = { ...cvm.attestation, platform: { ...platform, quote } as TdxEvidence };
  const strangers: [string, Partial<AppraisalInput>][] = [
    ["certificate-untrusted", { trustAnchors: [] }],
    ["collateral-missing", { collateral: undefined }],
    ["collateral-missing", { collateral: undefined, policy: policyWith({ required: [] }) }],
    ["quote-signature-invalid", { attestation: forged }],
  ];
  for (const [code, changes] of strangers) {
    const verdict = await judge(changes);
    assert.equal(verdict.reason?.code, code);
    const image = verdict.checks.find(({ id }) => id === "os-image")!;
    assert.deepEqual([image.result, image.detail], [
      "not-checked",
      "No image is looked up for evidence that is not proven genuine",
    ]);
  }
  const other = await judge({}, { osImageHashes: [new Uint8Array(32)] });
  assert.equal(other.reason?.code, "os-image-not-allowed");
  assert.deepEqual(asked, []);
  await judge({});
  assert.equal(asked.length, 1);
});
