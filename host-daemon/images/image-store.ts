import { AppError } from "#core/errors/app-error.ts";
import { encodeImageManifest, parseImageManifest } from "#core/measurement/image-manifest.ts";
import { type ImageFolder, verifyImage } from "#core/measurement/verified-image.ts";
import { requireImageName } from "../vmm/vm-id.ts";
import type { GuestImage, ImageSummary } from "./guest-image.ts";

/** The file access an image store needs; paths are absolute. */
export interface ImageFiles {
  /** The path with all links resolved, or undefined when there is nothing. */
  realPath(path: string): Promise<string | undefined>;
  isRegularFile(path: string): Promise<boolean>;
  readBytes(path: string, maxBytes: number): Promise<Uint8Array | undefined>;
  sha256(path: string): Promise<Uint8Array>;
  /** Changes whenever the file's content may have: inode, size and times. */
  fingerprint(path: string): Promise<string>;
  directories(path: string): Promise<string[]>;
  removeTree(path: string): Promise<void>;
}

const MAX_METADATA_BYTES = 64 * 1024;

/** Image folders below one directory, in the reference's format (spec/vmm.md section 4.7). */
export class ImageStore {
  readonly #root: string;
  readonly #files: ImageFiles;
  /** SHA-256 by path and fingerprint: a file is read once for each content. */
  readonly #digests = new Map<string, { fingerprint: string; digest: Uint8Array }>();

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
    const directory = await this.#directory(requireImageName(name));
    const verified = await verifyImage(this.#folder(name, directory)).catch((cause) => {
      throw refusal(name, cause);
    });
    const { manifest } = verified;
    const path = (file: string) => this.#inside(name, directory, file);
    if (manifest.rootfs === undefined) throw invalid(name, "metadata.json names no rootfs");
    if (!manifest.rootfs.endsWith(".verity")) throw invalid(name, "Unsupported rootfs type");
    return {
      name,
      version: versionOf(manifest.version, name),
      sharedReadOnly: manifest.sharedRo,
      kernel: await path(manifest.kernel),
      initrd: await path(manifest.initrd),
      rootfs: await path(manifest.rootfs),
      firmware: manifest.bios === undefined ? undefined : await path(manifest.bios),
      commandLine: manifest.cmdline,
      ovmfVariant: manifest.ovmfVariant,
      osImageHash: verified.osImageHash,
      checksumFile: verified.checksumFile,
      tdxMeasurement: verified.tdxMeasurement,
    };
  }

  /** Every folder with a readable metadata.json, by name; others are left out. Digests are not checked. */
  async list(): Promise<ImageSummary[]> {
    const images: ImageSummary[] = [];
    for (const name of (await this.#files.directories(this.#root)).sort()) {
      try {
        requireImageName(name);
        const path = `${this.#root}/${name}/metadata.json`;
        const bytes = await this.#files.readBytes(path, MAX_METADATA_BYTES);
        const manifest = parseImageManifest(bytes ?? new Uint8Array());
        images.push({
          name,
          version: versionOf(manifest.version, name),
          isDev: manifest.isDev,
          metadata: new TextDecoder().decode(encodeImageManifest(manifest)),
        });
      } catch (error) {
        if (!(error instanceof AppError)) throw error;
      }
    }
    return images;
  }

  /** The caller has made sure that no CVM uses it. */
  async remove(name: string): Promise<void> {
    await this.#directory(requireImageName(name));
    await this.#files.removeTree(`${this.#root}/${name}`);
  }

  async #directory(name: string): Promise<string> {
    const directory = await this.#files.realPath(`${this.#root}/${name}`);
    if (directory === undefined) throw new AppError("image/not-found", `image '${name}' not found`);
    return directory;
  }

  #folder(name: string, directory: string): ImageFolder {
    return {
      read: async (file, maxBytes) => {
        if (!(await this.#files.isRegularFile(`${directory}/${file}`))) return undefined;
        return await this.#files.readBytes(`${directory}/${file}`, maxBytes);
      },
      sha256: async (file) => {
        const path = await this.#inside(name, directory, file);
        const fingerprint = await this.#files.fingerprint(path);
        const known = this.#digests.get(path);
        if (known?.fingerprint === fingerprint) return known.digest;
        const digest = await this.#files.sha256(path);
        this.#digests.set(path, { fingerprint, digest });
        return digest;
      },
    };
  }

  /** The path of a file an image names; a link is refused, wherever it leads. */
  async #inside(name: string, directory: string, file: string): Promise<string> {
    const path = `${directory}/${file}`;
    if (file.includes("/") || !(await this.#files.isRegularFile(path))) {
      throw invalid(name, `${file} is not a file inside it`);
    }
    return path;
  }
}

function versionOf(stated: string, name: string): string {
  return stated === "" ? name.replace(/^dstack-(dev-)?/, "") : stated;
}

function refusal(name: string, cause: unknown): unknown {
  if (!(cause instanceof AppError) || cause.code === "image/invalid") return cause;
  const code = cause.code === "measurement/image-mismatch"
    ? "image/digest-mismatch"
    : "image/invalid";
  return new AppError(code, `Image ${name} cannot be used`, { cause });
}

function invalid(name: string, why: string): AppError {
  return new AppError("image/invalid", `Image ${name} cannot be used: ${why}`);
}
