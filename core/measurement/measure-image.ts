import { concatBytes, equalBytes } from "../bytes/bytes.ts";
import { AppError } from "../errors/app-error.ts";
import { authenticodeSha384 } from "./authenticode.ts";
import { sha384Of } from "./digest.ts";
import { EMPTY_CFV_SHA384, utf16le } from "./efi-constants.ts";
import { type ExpectedRegisters, registersOf, type VmShape } from "./expected-registers.ts";
import { rootfsCommitmentOf } from "./image-manifest.ts";
import { LITE_MEMORY_BYTES, patchKernel } from "./kernel-patch.ts";
import { acceptedMemoryOf, configVolumeOf, mrTdOf, parseTdvf, type TdvfSection } from "./tdvf.ts";
import type { TdxMeasurementDocument } from "./tdx-measurement-document.ts";

/** The parts of an image that TDX measures at boot. */
export interface TdxImageFiles {
  readonly firmware: Uint8Array;
  readonly kernel: Uint8Array;
  readonly initrd: Uint8Array;
  /** As in metadata.json, without ` initrd=initrd`. */
  readonly cmdline: string;
}

/** The document published with an image: it spares verifiers the image itself. */
export async function measureTdxImage(files: TdxImageFiles): Promise<TdxMeasurementDocument> {
  rootfsCommitmentOf(files.cmdline);
  const sections = parseTdvf(files.firmware);
  const [image, singlePass, twoPass] = await Promise.all([
    measureLoaded(files, patchKernel(files.kernel, files.initrd.length, LITE_MEMORY_BYTES)),
    mrTdOf(files.firmware, sections, false),
    mrTdOf(files.firmware, sections, true),
    requireEmptyConfigVolume(files.firmware, sections),
  ]);
  return { image, mrTd: { singlePass, twoPass }, acceptedMemory: acceptedMemoryOf(sections) };
}

/** A shape whose memory size may be any, as the image itself is at hand. */
export interface ImageVmShape extends VmShape {
  /** QEMU before 10.2 writes into the header of the kernel it loads; see `patchesKernelHeader`. */
  readonly kernelHeader: "patched" | "as-shipped";
}

/** MRTD and RTMR0-2 of an image in one VM. */
export async function measureImage(
  files: TdxImageFiles,
  shape: ImageVmShape,
): Promise<ExpectedRegisters> {
  const sections = parseTdvf(files.firmware);
  const kernel = shape.kernelHeader === "as-shipped"
    ? files.kernel
    : patchKernel(files.kernel, files.initrd.length, shape.memoryBytes);
  const [image, mrTd] = await Promise.all([
    measureLoaded(files, kernel),
    mrTdOf(files.firmware, sections, shape.twoPass),
    requireEmptyConfigVolume(files.firmware, sections),
  ]);
  // Only the pass that the shape uses is computed, so both names hold it.
  const document = {
    image,
    mrTd: { singlePass: mrTd, twoPass: mrTd },
    acceptedMemory: acceptedMemoryOf(sections),
  };
  return registersOf(document, shape);
}

async function measureLoaded(
  files: TdxImageFiles,
  kernel: Uint8Array,
): Promise<TdxMeasurementDocument["image"]> {
  const [cmdlineSha384, kernelAuthenticode, initrdSha384] = await Promise.all([
    sha384Of(measuredCmdline(files.cmdline)),
    authenticodeSha384(kernel),
    sha384Of(files.initrd),
  ]);
  return { cmdlineSha384, kernelAuthenticode, initrdSha384 };
}

/** What the EFI stub measures: UTF-16 with a terminating zero, and the initrd argument QEMU appends. */
export function measuredCmdline(cmdline: string): Uint8Array {
  return concatBytes(utf16le(`${cmdline} initrd=initrd`), new Uint8Array(2));
}

/** A firmware with variables set would extend another digest into RTMR0 than every verifier expects. */
async function requireEmptyConfigVolume(
  firmware: Uint8Array,
  sections: readonly TdvfSection[],
): Promise<void> {
  const volume = configVolumeOf(firmware, sections);
  if (volume !== undefined && equalBytes(await sha384Of(volume), EMPTY_CFV_SHA384)) return;
  throw new AppError(
    "measurement/unsupported",
    "The firmware's configuration volume is not the empty one of an IntelTdx build",
  );
}
