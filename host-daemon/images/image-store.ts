import {
  CHECKSUM_FILE_NAME,
  osImageHash,
  parseChecksumFile,
} from "#core/measurement/checksum-file.ts";
import { equalBytes, fromUtf8, toHex } from "#core/bytes/bytes.ts";
import { JsonObject } from "#core/encoding/json-object.ts";
import { parseStrictJson } from "#core/encoding/strict-json.ts";
import { AppError } from "#core/errors/app-error.ts";
import { requireImageName } from "../vmm/vm-id.ts";
import type { GuestImage } from "./guest-image.ts";

/** The file access an image store needs; paths are absolute, links are resolved. */
export interface ImageFiles {
  /** The path with all links resolved, or undefined when there is nothing. */
  realPath(path: string): Promise<string | undefined>;
  isRegularFile(path: string): Promise<boolean>;
  readBytes(path: string, maxBytes: number): Promise<Uint8Array | undefined>;
  sha256(path: string): Promise<Uint8Array>;
  /** Changes whenever the file's content may have: size, times, inode. */
  fingerprint(path: string): Promise<string>;
  directories(path: string): Promise<string[]>;
  removeTree(path: string): Promise<void>;
}

const MAX_METADATA_BYTES = 256 * 1024;
const MAX_CHECKSUM_BYTES = 64 * 1024;
const MAX_MEASUREMENT_BYTES = 64 * 1024;
const TDX_MEASUREMENT = "measurement.tdx.cbor";

/** Image folders below one directory, in the reference's format (spec/vmm.md section 4.7). */
export class ImageStore {
  readonly #root: string;
  readonly #files: ImageFiles;
  /** Digests are taken once per content: file fingerprints that were seen to match their list. */
  readonly #verified = new Set<string>();

  constructor(root: string, files: ImageFiles) {
    this.#root = root;
    this.#files = files;
  }

  /**
   * Loads an image and verifies every file of its checksum list, which covers all that is measured; the
   * root file system is covered by the dm-verity hash in the measured command line.
   * Throws `image/not-found`, `image/invalid`, `image/digest-mismatch`.
   */
  async load(name: string): Promise<GuestImage> {
    const image = await this.#read(requireImageName(name));
    await this.#verify(image);
    return image;
  }

  /** Every folder that can be read as an image, by name; broken ones are left out. */
  async list(): Promise<GuestImage[]> {
    const images: GuestImage[] = [];
    for (const name of (await this.#files.directories(this.#root)).sort()) {
      try {
        images.push(await this.#read(requireImageName(name)));
      } catch (error) {
        if (!(error instanceof AppError)) throw error;
      }
    }
    return images;
  }

  /** The caller has made sure that no CVM uses it. */
  async remove(name: string): Promise<void> {
    const directory = `${this.#root}/${requireImageName(name)}`;
    if (await this.#files.realPath(directory) === undefined) {
      throw new AppError("image/not-found", `image '${name}' not found`);
    }
    await this.#files.removeTree(directory);
  }

  async #read(name: string): Promise<GuestImage> {
    const directory = await this.#files.realPath(`${this.#root}/${name}`);
    if (directory === undefined) throw new AppError("image/not-found", `image '${name}' not found`);
    const bytes = await this.#files.readBytes(`${directory}/metadata.json`, MAX_METADATA_BYTES);
    if (bytes === undefined) throw invalid(name, "it has no metadata.json");
    const metadata = new JsonObject(parseStrictJson(bytes, "metadata.json"), "metadata.json")
      .withoutNulls();
    const artifact = async (key: string, required: boolean) => {
      const path = metadata.string(key, undefined);
      if (path === undefined || path === "") {
        if (required) throw invalid(name, `metadata.json names no ${key}`);
        return undefined;
      }
      return await this.#inside(name, directory, path);
    };
    const [kernel, initrd, rootfs, firmware] = await Promise.all([
      artifact("kernel", true),
      artifact("initrd", true),
      artifact("rootfs", true),
      artifact("bios", false),
    ]);
    if (!rootfs!.endsWith(".verity")) throw invalid(name, "Unsupported rootfs type");
    const checksumFile = await this.#files.readBytes(
      `${directory}/${CHECKSUM_FILE_NAME}`,
      MAX_CHECKSUM_BYTES,
    );
    if (checksumFile === undefined) throw invalid(name, `it has no ${CHECKSUM_FILE_NAME}`);
    const version = metadata.string("version", "");
    return {
      name,
      directory,
      version: version === "" ? name.replace(/^dstack-(dev-)?/, "") : version,
      isDev: metadata.boolean("is_dev", false),
      sharedReadOnly: metadata.boolean("shared_ro", false),
      kernel: kernel!,
      initrd: initrd!,
      rootfs: rootfs!,
      firmware,
      commandLine: metadata.string("cmdline", ""),
      ovmfVariant: metadata.string("ovmf_variant", undefined),
      osImageHash: osImageHash(checksumFile),
      checksumFile,
      tdxMeasurement: await this.#files.readBytes(
        `${directory}/${TDX_MEASUREMENT}`,
        MAX_MEASUREMENT_BYTES,
      ),
      metadata: fromUtf8(bytes, "metadata.json"),
    };
  }

  /** The real path of a file an image names; leaving the image's folder, also by a link, is refused. */
  async #inside(name: string, directory: string, path: string): Promise<string> {
    const real = await this.#files.realPath(`${directory}/${path}`);
    if (path.startsWith("/") || real === undefined || !real.startsWith(`${directory}/`)) {
      throw invalid(name, `${path} is not a file inside it`);
    }
    if (!(await this.#files.isRegularFile(real))) throw invalid(name, `${path} is not a file`);
    return real;
  }

  async #verify(image: GuestImage): Promise<void> {
    const digestFile = await this.#files.readBytes(`${image.directory}/digest.txt`, 1024);
    if (digestFile !== undefined) {
      const stated = fromUtf8(digestFile, "digest.txt").trim().toLowerCase();
      if (stated !== toHex(image.osImageHash)) {
        throw mismatch(image.name, "digest.txt is not the digest of sha256sum.txt");
      }
    }
    let checksums;
    try {
      checksums = parseChecksumFile(image.checksumFile);
    } catch (cause) {
      throw new AppError("image/invalid", `Image ${image.name} cannot be used`, { cause });
    }
    const measured = [
      image.kernel,
      image.initrd,
      image.firmware,
      `${image.directory}/metadata.json`,
    ];
    for (const path of measured) {
      const file = path?.slice(image.directory.length + 1);
      if (file !== undefined && !checksums.has(file)) {
        throw mismatch(image.name, `${CHECKSUM_FILE_NAME} does not list ${file}`);
      }
    }
    for (const [file, expected] of checksums) {
      const path = await this.#inside(image.name, image.directory, file);
      const seen = `${path}\n${await this.#files.fingerprint(path)}\n${toHex(expected)}`;
      if (this.#verified.has(seen)) continue;
      if (!equalBytes(await this.#files.sha256(path), expected)) {
        throw mismatch(image.name, `${file} does not have the digest ${CHECKSUM_FILE_NAME} lists`);
      }
      this.#verified.add(seen);
    }
  }
}

function invalid(name: string, why: string): AppError {
  return new AppError("image/invalid", `Image ${name} cannot be used: ${why}`);
}

function mismatch(name: string, why: string): AppError {
  return new AppError("image/digest-mismatch", `Image ${name} is refused: ${why}`);
}
