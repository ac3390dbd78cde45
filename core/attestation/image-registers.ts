import { equalBytes } from "../bytes/bytes.ts";
import { MeasuredImage } from "../measurement/measure-image.ts";
import { type ImageFolder, readTdxFiles, verifyImage } from "../measurement/verified-image.ts";
import type { Reference } from "./reference.ts";

/**
 * `Reference.registersOf` for a relying party that has the image's folder. The folder is read and
 * checked when the first legacy configuration asks, then kept. Another image's configuration gets no
 * answer; a folder that does not hold what it lists throws `measurement/image-mismatch`.
 */
export function registersFromFolder(
  folder: ImageFolder,
): NonNullable<Reference["registersOf"]> {
  let opening: Promise<{ hash: Uint8Array; image: MeasuredImage }> | undefined;
  return async (config) => {
    opening ??= openImage(folder);
    const { hash, image } = await opening;
    return equalBytes(hash, config.osImageHash) ? await image.measureVm(config) : undefined;
  };
}

async function openImage(
  folder: ImageFolder,
): Promise<{ hash: Uint8Array; image: MeasuredImage }> {
  const verified = await verifyImage(folder);
  const image = new MeasuredImage(await readTdxFiles(folder, verified));
  return { hash: verified.osImageHash, image };
}
