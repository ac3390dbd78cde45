import { execFileSync } from "node:child_process";
import { existsSync, readdirSync, readFileSync } from "node:fs";
import { acpiDigestsFor } from "#core/measurement/acpi/blobs.ts";
import { acpiMachineOf } from "#core/measurement/acpi/vm-machine.ts";
import { expectedTdxRegisters } from "#core/measurement/expected-registers.ts";
import { parseImageManifest } from "#core/measurement/image-manifest.ts";
import {
  MeasuredImage,
  measureTdxImage,
  type TdxImageFiles,
  vmShapeOf,
} from "#core/measurement/measure-image.ts";
import {
  encodeTdxMeasurementDocument,
  parseTdxMeasurementDocument,
} from "#core/measurement/tdx-measurement-document.ts";
import { parseVmConfig } from "#core/measurement/vm-config.ts";
import { bootableKernel, pattern, tdxFirmware } from "../fixtures/tdx-image.ts";
import { type BenchResult, median, withoutPeer } from "./result.ts";

const CACHE = process.env["DSTACK_CACHE"] ?? new URL("../../.cache", import.meta.url).pathname;
const IMAGES = `${CACHE}/images`;
/** 1 GiB is a size no measurement document covers, with a kernel digest of its own. */
const CONFIGS = {
  typical: parseVmConfig(`{"qemu_version":"11.1.3","cpu_count":4,"memory_size":${8 * 2 ** 30}}`),
  large: parseVmConfig(
    `{"qemu_version":"10.1.0","cpu_count":128,"memory_size":${
      2 ** 40
    },"num_gpus":8,"num_nvswitches":4}`,
  ),
  small: parseVmConfig(`{"qemu_version":"10.1.0","cpu_count":1,"memory_size":${2 ** 30}}`),
};

/** The newest built image, else one of the sizes a Debian cloud kernel and our initramfs have. */
function imageFiles(): { readonly source: string; readonly files: TdxImageFiles } {
  const folders = existsSync(IMAGES) ? readdirSync(IMAGES).sort().reverse() : [];
  for (const folder of folders) {
    const read = (name: string) => new Uint8Array(readFileSync(`${IMAGES}/${folder}/${name}`));
    if (!existsSync(`${IMAGES}/${folder}/metadata.json`)) continue;
    const { bios, kernel, initrd, cmdline } = parseImageManifest(read("metadata.json"));
    if (bios === undefined || !existsSync(`${IMAGES}/${folder}/${bios}`)) continue;
    const files = { firmware: read(bios), kernel: read(kernel), initrd: read(initrd), cmdline };
    return { source: folder, files };
  }
  const files = {
    firmware: tdxFirmware(),
    kernel: bootableKernel(13_965_312),
    initrd: pattern(8_000_000, 3, 1),
    cmdline: `dstack.rootfs_hash=${"ab".repeat(32)} dstack.rootfs_size=4096`,
  };
  return { source: "made-up image", files };
}

/**
 * Predicting MRTD and RTMR0-2, ACPI tables included. Cold means a process that has done nothing yet, with
 * the image's files in memory; cached means their digests are known.
 */
export async function run(): Promise<BenchResult[]> {
  const { source, files } = imageFiles();
  const cold = Array.from({ length: 5 }, () => Number(coldSample()));
  const document = parseTdxMeasurementDocument(
    encodeTdxMeasurementDocument(await measureTdxImage(files)),
  );
  const image = new MeasuredImage(files);
  const { typical, large, small } = CONFIGS;
  return [
    withoutPeer(`predict MRTD and RTMR0-2, cold (${source})`, median(cold)),
    withoutPeer(
      "predict MRTD and RTMR0-2, image digests cached",
      await timed(200, () => image.measureVm(typical)),
    ),
    withoutPeer(
      "predict MRTD and RTMR0-2, image digests cached, 128 CPUs and 8 GPUs",
      await timed(100, () => image.measureVm(large)),
    ),
    withoutPeer(
      "predict MRTD and RTMR0-2, image digests cached but the kernel's for 1 GiB",
      await timed(20, () => image.measureVm(small)),
    ),
    withoutPeer(
      "predict MRTD and RTMR0-2 from a measurement document",
      await timed(
        200,
        async () => expectedTdxRegisters({ ...await vmShapeOf(typical), document }),
      ),
    ),
    withoutPeer(
      "generate ACPI tables, 4 CPUs",
      await timed(200, () => acpiDigestsFor(acpiMachineOf(typical))),
    ),
  ];
}

async function timed(rounds: number, run: () => Promise<unknown>): Promise<number> {
  const samples: number[] = [];
  for (let i = -rounds / 10; i < rounds; i++) {
    const start = performance.now();
    await run();
    if (i >= 0) samples.push(performance.now() - start);
  }
  return median(samples);
}

function coldSample(): string {
  const self = new URL(import.meta.url).pathname;
  const flags = "Deno" in globalThis ? ["run", "-A", "--no-check"] : [];
  return execFileSync(process.execPath, [...flags, self, "--cold-sample"], { encoding: "utf8" });
}

if (process.argv[2] === "--cold-sample") {
  const { files } = imageFiles();
  const start = performance.now();
  await new MeasuredImage(files).measureVm(CONFIGS.typical);
  process.stdout.write(String(performance.now() - start));
}
