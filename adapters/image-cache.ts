import { createHash } from "node:crypto";
import { createReadStream } from "node:fs";
import { mkdir, mkdtemp, readdir, rename, rm, stat, utimes } from "node:fs/promises";
import { join } from "node:path";
import { type OpenImage, openImage } from "#core/attestation/image-registers.ts";
import type { Reference } from "#core/attestation/reference.ts";
import { toHex } from "#core/bytes/bytes.ts";
import { BoundedMap } from "#core/collections/bounded-map.ts";
import { AppError } from "#core/errors/app-error.ts";
import { CHECKSUM_FILE_NAME, parseChecksumFile } from "#core/measurement/checksum-file.ts";
import { type ImageFolder, verifyImage } from "#core/measurement/verified-image.ts";
import { isErrno, readFileBounded, readFileIfExists } from "./files.ts";
import { unpackImage } from "./image-archive.ts";

/** What one archive may unpack to; images are below 1 GiB. */
const MAX_IMAGE_BYTES = 4 * 1024 ** 3;
const MAX_CHECKSUMS_BYTES = 64 * 1024;
/** Kernel, initrd and firmware of an image are some 30 MiB in memory. */
const MAX_OPEN = 4;

export interface ImageCacheOptions {
  /** Images are kept in `images/<hash>` below it (attestation.md 6.3). */
  readonly directory: string;
  /** With `{OS_IMAGE_HASH}` where the hash belongs. */
  readonly downloadUrl: string;
  readonly timeoutMs: number;
  /** When all images together exceed it, those used least recently go. */
  readonly maxBytes: number;
  readonly now: () => Date;
  readonly fetch: typeof globalThis.fetch;
  readonly logError: (what: string, error: unknown) => void;
}

/**
 * OS images by their hash, downloaded when evidence names one, and what VMs of them measure. Nothing
 * the server says is believed: an image is kept only if every file is what its checksums say, and the
 * checksums are what the hash says.
 */
export class ImageCache {
  readonly #options: ImageCacheOptions;
  readonly #images: string;
  readonly #open = new BoundedMap<string, Promise<OpenImage>>(MAX_OPEN);

  constructor(options: ImageCacheOptions) {
    this.#options = options;
    this.#images = join(options.directory, "images");
  }

  /**
   * `Reference.registersOf`, for CVMs that do not bring their measurements. An image that cannot be
   * had leaves nothing to compare with; one that is not what its hash says throws
   * `measurement/image-mismatch` or `image/invalid`.
   */
  readonly registersOf: NonNullable<Reference["registersOf"]> = async (config) => {
    const hash = toHex(config.osImageHash);
    let image = this.#open.get(hash);
    if (image === undefined) {
      image = this.#load(hash, config.osImageHash);
      this.#open.set(hash, image);
      image.catch(() => this.#open.delete(hash)); // whoever asks next tries anew
    }
    try {
      return await (await image).registersOf(config);
    } catch (error) {
      if (!(error instanceof AppError) || error.code !== "upstream/unavailable") throw error;
      this.#options.logError("downloading an OS image", error);
      return undefined;
    }
  };

  async #load(hash: string, expected: Uint8Array): Promise<OpenImage> {
    const directory = join(this.#images, hash);
    if (await sizeOf(directory) === undefined) await this.#download(hash, expected);
    const now = this.#options.now();
    await utimes(directory, now, now);
    await this.#evict(hash);
    return await openImage(folderOf(directory), expected);
  }

  async #download(hash: string, expected: Uint8Array): Promise<void> {
    await mkdir(join(this.#images, "tmp"), { recursive: true, mode: 0o700 });
    const staging = await mkdtemp(join(this.#images, "tmp", `${hash}-`));
    try {
      await unpackImage(await this.#request(hash), staging, MAX_IMAGE_BYTES);
      await verifyImage(folderOf(staging), expected);
      await removeUnlisted(staging);
      await rename(staging, join(this.#images, hash));
    } catch (error) {
      // Another process may have been faster; its image was verified as well.
      if (!isErrno(error, "ENOTEMPTY") && !isErrno(error, "EEXIST")) throw error;
    } finally {
      await rm(staging, { recursive: true, force: true });
    }
  }

  async #request(hash: string): Promise<AsyncIterable<Uint8Array>> {
    const { downloadUrl, timeoutMs, fetch } = this.#options;
    const url = downloadUrl.replace("{OS_IMAGE_HASH}", hash);
    let response: Response;
    try {
      response = await fetch(url, { signal: AbortSignal.timeout(timeoutMs), redirect: "manual" });
    } catch (cause) {
      throw new AppError("upstream/unavailable", `No OS image to be had at ${url}`, { cause });
    }
    if (response.ok && response.body) return response.body;
    await response.body?.cancel();
    throw new AppError("upstream/unavailable", `${url} answered ${response.status}`);
  }

  /** Removes images until the rest fits, but never the one in use. */
  async #evict(inUse: string): Promise<void> {
    const names = (await readdir(this.#images)).filter((name) => /^[0-9a-f]{64}$/.test(name));
    const images = await Promise.all(names.map(async (name) => {
      const path = join(this.#images, name);
      return { name, path, bytes: await sizeOf(path) ?? 0, usedMs: (await stat(path)).mtimeMs };
    }));
    let total = images.reduce((sum, { bytes }) => sum + bytes, 0);
    for (const { name, path, bytes } of images.sort((a, b) => a.usedMs - b.usedMs)) {
      if (total <= this.#options.maxBytes) return;
      if (name === inUse) continue;
      await rm(path, { recursive: true, force: true });
      total -= bytes;
    }
  }
}

/** Bytes of the files in a folder; undefined when it is not there. */
async function sizeOf(directory: string): Promise<number | undefined> {
  try {
    const names = await readdir(directory);
    const sizes = await Promise.all(
      names.map(async (name) => (await stat(join(directory, name))).size),
    );
    return sizes.reduce((sum, size) => sum + size, 0);
  } catch (error) {
    if (isErrno(error, "ENOENT")) return undefined;
    throw error;
  }
}

/** What no checksum covers is nobody's: the root file system, which dm-verity checks in the VM. */
async function removeUnlisted(directory: string): Promise<void> {
  const list = await readFileBounded(join(directory, CHECKSUM_FILE_NAME), MAX_CHECKSUMS_BYTES);
  const listed = parseChecksumFile(list);
  for (const name of await readdir(directory)) {
    if (name !== CHECKSUM_FILE_NAME && !listed.has(name)) await rm(join(directory, name));
  }
}

/** A folder whose files this process wrote: flat, and no links. */
function folderOf(directory: string): ImageFolder {
  return {
    read: (name, maxBytes) => readFileIfExists(join(directory, name), maxBytes),
    sha256: async (name) => {
      const hash = createHash("sha256");
      try {
        for await (const chunk of createReadStream(join(directory, name))) hash.update(chunk);
      } catch (error) {
        if (isErrno(error, "ENOENT")) return undefined;
        throw error;
      }
      return new Uint8Array(hash.digest());
    },
  };
}
