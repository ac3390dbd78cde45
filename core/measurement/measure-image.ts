import { concatBytes, equalBytes } from "../bytes/bytes.ts";
import { AppError } from "../errors/app-error.ts";
import { acpiDigestsFor } from "./acpi/blobs.ts";
import { acpiMachineOf } from "./acpi/vm-machine.ts";
import { authenticodeSha384 } from "./authenticode.ts";
import { sha384Of } from "./digest.ts";
import { EMPTY_CFV_SHA384, utf16le } from "./efi-constants.ts";
import {
  type ExpectedRegisters,
  registersOf,
  supportsLiteMeasurement,
  type VmShape,
} from "./expected-registers.ts";
import { rootfsCommitmentOf } from "./image-manifest.ts";
import { LITE_MEMORY_BYTES, patchKernel } from "./kernel-patch.ts";
import { acceptedMemoryOf, configVolumeOf, mrTdOf, parseTdvf, type TdvfSection } from "./tdvf.ts";
import { OVMF_VARIANT, type TdxMeasurementDocument } from "./tdx-measurement-document.ts";
import { patchesKernelHeader, usesTwoPass, type VmConfig } from "./vm-config.ts";

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
  const { firmware, kernel, initrd, cmdline } = files;
  const sections = parseTdvf(firmware);
  const lite = patchKernel(kernel, initrd.length, LITE_MEMORY_BYTES);
  const [singlePass, twoPass, cmdlineSha384, kernelAuthenticode, initrdSha384] = await Promise.all([
    mrTdOf(firmware, sections, false),
    mrTdOf(firmware, sections, true),
    sha384Of(measuredCmdline(cmdline)),
    authenticodeSha384(lite),
    sha384Of(initrd),
    requireEmptyConfigVolume(firmware, sections),
  ]);
  return {
    image: { cmdlineSha384, kernelAuthenticode, initrdSha384 },
    mrTd: { singlePass, twoPass },
    acceptedMemory: acceptedMemoryOf(sections),
  };
}

/** A shape whose memory size may be any, as the image itself is at hand. */
export interface ImageVmShape extends VmShape {
  /** QEMU before 10.2 writes into the header of the kernel it loads; see `patchesKernelHeader`. */
  readonly kernelHeader: "patched" | "as-shipped";
}

/**
 * An image in memory. What depends on it alone is computed once: each further VM costs its TD HOB and
 * ACPI tables. `measure` throws `input/malformed` or `measurement/unsupported` for parts no TD boots.
 */
export class MeasuredImage {
  readonly #files: TdxImageFiles;
  readonly #sections: readonly TdvfSection[];
  readonly #digests = new Map<string, Promise<Uint8Array>>();
  #checked: Promise<void> | undefined;

  constructor(files: TdxImageFiles) {
    this.#files = files;
    this.#sections = parseTdvf(files.firmware);
  }

  /** MRTD and RTMR0-2 in the VM a configuration describes, its ACPI tables predicted. */
  async measureVm(config: VmConfig): Promise<ExpectedRegisters> {
    const kernelHeader = patchesKernelHeader(config) ? "patched" : "as-shipped";
    return await this.measure({ ...await vmShapeOf(config), kernelHeader });
  }

  /** MRTD and RTMR0-2 in a VM whose ACPI tables are known. */
  async measure(shape: ImageVmShape): Promise<ExpectedRegisters> {
    const { firmware, cmdline, initrd } = this.#files;
    const sections = this.#sections;
    this.#checked ??= requireEmptyConfigVolume(firmware, sections);
    const [mrTd, cmdlineSha384, kernelAuthenticode, initrdSha384] = await Promise.all([
      this.#once(`mrtd ${shape.twoPass}`, () => mrTdOf(firmware, sections, shape.twoPass)),
      this.#once("cmdline", () => sha384Of(measuredCmdline(cmdline))),
      this.#kernelDigest(shape),
      this.#once("initrd", () => sha384Of(initrd)),
      this.#checked,
    ]);
    // Only the pass that the shape uses is computed, so both names hold it.
    const document = {
      image: { cmdlineSha384, kernelAuthenticode, initrdSha384 },
      mrTd: { singlePass: mrTd, twoPass: mrTd },
      acceptedMemory: acceptedMemoryOf(sections),
    };
    return registersOf(document, shape);
  }

  /** Each memory size but the lite ones has a kernel of its own; those are not kept. */
  #kernelDigest({ kernelHeader, memoryBytes }: ImageVmShape): Promise<Uint8Array> {
    const { kernel, initrd } = this.#files;
    if (kernelHeader === "as-shipped") {
      return this.#once("kernel as shipped", () => authenticodeSha384(kernel));
    }
    const patched = async () =>
      await authenticodeSha384(patchKernel(kernel, initrd.length, memoryBytes));
    return supportsLiteMeasurement(memoryBytes) ? this.#once("kernel", patched) : patched();
  }

  #once(name: string, compute: () => Promise<Uint8Array>): Promise<Uint8Array> {
    let digest = this.#digests.get(name);
    if (digest === undefined) this.#digests.set(name, digest = compute());
    return digest;
  }
}

/** What a configuration says about its VM. Throws `measurement/unsupported`. */
export async function vmShapeOf(config: VmConfig): Promise<VmShape> {
  const { ovmfVariant = OVMF_VARIANT, memoryBytes } = config;
  if (ovmfVariant !== OVMF_VARIANT) {
    throw new AppError(
      "measurement/unsupported",
      `Firmware of layout ${JSON.stringify(ovmfVariant)} is not known, only ${OVMF_VARIANT}`,
    );
  }
  const acpiDigests = await acpiDigestsFor(acpiMachineOf(config));
  return { memoryBytes, twoPass: usesTwoPass(config), acpiDigests };
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
