import { equalBytes } from "../bytes/bytes.ts";
import { MeasuredImage } from "../measurement/measure-image.ts";
import { type ImageFolder, readTdxFiles, verifyImage } from "../measurement/verified-image.ts";
import type { VmConfig } from "../measurement/vm-config.ts";
import type { Reference, ReferenceRegisters } from "./reference.ts";

/** A verified image whose boot files are in memory. */
export interface OpenImage {
  readonly osImageHash: Uint8Array;
  /** Throws `measurement/unsupported` for a VM whose registers nobody predicts. */
  readonly registersOf: (config: VmConfig) => Promise<ReferenceRegisters>;
}

/**
 * `Reference.registersOf` for a relying party that has the image's folder. The folder is read and
 * checked when the first legacy configuration asks, then kept. Another image's configuration gets no
 * answer; a folder that does not hold what it lists throws `measurement/image-mismatch`.
 */
export function registersFromFolder(
  folder: ImageFolder,
): NonNullable<Reference["registersOf"]> {
  let opening: Promise<OpenImage> | undefined;
  return async (config) => {
    opening ??= openImage(folder);
    const { osImageHash, registersOf } = await opening;
    return equalBytes(osImageHash, config.osImageHash) ? await registersOf(config) : undefined;
  };
}

/** Throws `measurement/image-mismatch` for a folder that does not hold what it lists, or another image. */
export async function openImage(
  folder: ImageFolder,
  expectedHash?: Uint8Array,
): Promise<OpenImage> {
  const verified = await verifyImage(folder, expectedHash);
  const measured = new MeasuredImage(await readTdxFiles(folder, verified));
  const { version, isDev } = verified.manifest;
  return {
    osImageHash: verified.osImageHash,
    registersOf: async (config) => ({
      ...await measured.measureVm(config),
      image: { version, isDev },
    }),
  };
}
