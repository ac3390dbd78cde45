import { execFileSync } from "node:child_process";
import { existsSync, readdirSync, readFileSync } from "node:fs";
import { expectedTdxRegisters } from "#core/measurement/expected-registers.ts";
import { parseImageManifest } from "#core/measurement/image-manifest.ts";
import {
  MeasuredImage,
  measureTdxImage,
  type TdxImageFiles,
} from "#core/measurement/measure-image.ts";
import {
  encodeTdxMeasurementDocument,
  parseTdxMeasurementDocument,
} from "#core/measurement/tdx-measurement-document.ts";
import { bootableKernel, pattern, tdxFirmware } from "../fixtures/tdx-image.ts";
import { type BenchResult, median, withoutPeer } from "./result.ts";

const IMAGES = new URL("../../.cache/images", import.meta.url).pathname;
const SHAPE = {
  memoryBytes: 2 ** 31,
  twoPass: false,
  kernelHeader: "patched",
  acpiDigests: {
    loader: new Uint8Array(48),
    rsdp: new Uint8Array(48),
    tables: new Uint8Array(48),
  },
} as const;

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

/** Predicting MRTD and RTMR0-2; cold means a process that has done nothing yet. */
export async function run(): Promise<BenchResult[]> {
  const { source, files } = imageFiles();
  const cold = Array.from({ length: 5 }, () => Number(coldSample()));
  const document = parseTdxMeasurementDocument(
    encodeTdxMeasurementDocument(await measureTdxImage(files)),
  );
  const cached: number[] = [];
  for (let i = 0; i < 200; i++) {
    const start = performance.now();
    expectedTdxRegisters({ ...SHAPE, document });
    cached.push(performance.now() - start);
  }
  return [
    withoutPeer(`predict MRTD and RTMR0-2, cold (${source})`, median(cold)),
    withoutPeer("predict MRTD and RTMR0-2, image digests cached", median(cached)),
  ];
}

function coldSample(): string {
  const self = new URL(import.meta.url).pathname;
  const flags = "Deno" in globalThis ? ["run", "-A", "--no-check"] : [];
  return execFileSync(process.execPath, [...flags, self, "--cold-sample"], { encoding: "utf8" });
}

if (process.argv[2] === "--cold-sample") {
  const { files } = imageFiles();
  const start = performance.now();
  await new MeasuredImage(files).measure(SHAPE);
  process.stdout.write(String(performance.now() - start));
}
