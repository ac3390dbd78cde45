import { createHash } from "node:crypto";
import { mkdir, readFile, stat } from "node:fs/promises";
import { writeFileAtomic } from "#adapters/files.ts";
import { AppError } from "#core/errors/app-error.ts";
import type { LockedFile, LockedPackage, PackageLock } from "../lock.ts";
import type { Mirror } from "./mirror.ts";

const PARALLEL_DOWNLOADS = 8;
const TIMEOUT_MS = 120_000;

/** Packages on disk by the SHA-256 of their bytes, shared by all builds of one work tree. */
export class PackageStore {
  readonly #directory: string;
  readonly #mirror: Mirror;

  constructor(directory: string, mirror: Mirror) {
    this.#directory = directory;
    this.#mirror = mirror;
  }

  path(p: LockedFile): string {
    return `${this.#directory}/${p.sha256}`;
  }

  /**
   * Fetches what is not there yet and returns the packages nobody serves any more. Packages at hand are
   * checked again, since a damaged one would end up in an image.
   */
  async fetch(
    lock: PackageLock,
    onProgress: (done: number, total: number) => void,
  ): Promise<LockedPackage[]> {
    await mkdir(this.#directory, { recursive: true });
    const queue: LockedPackage[] = [];
    for (const p of lock.packages) if (!(await this.#has(p))) queue.push(p);
    const gone: LockedPackage[] = [];
    const total = queue.length;
    let done = 0;
    const worker = async () => {
      for (let p = queue.shift(); p !== undefined; p = queue.shift()) {
        if (!(await this.#fetchOne(p, lock.resolvedAt))) gone.push(p);
        onProgress(++done, total);
      }
    };
    await Promise.all(Array.from({ length: PARALLEL_DOWNLOADS }, worker));
    return gone;
  }

  /** One file that is not a package; returns its path. */
  async fetchFile(file: LockedFile, resolvedAt: string): Promise<string> {
    await mkdir(this.#directory, { recursive: true });
    if (!(await this.#has(file)) && !(await this.#fetchOne(file, resolvedAt))) {
      throw new AppError(
        "os-build/package-unavailable",
        `Neither the mirror nor snapshot.debian.org has ${file.filename}`,
      );
    }
    return this.path(file);
  }

  async #has(p: LockedFile): Promise<boolean> {
    const present = await stat(this.path(p)).catch(() => undefined);
    return present?.size === p.size && sha256Hex(await readFile(this.path(p))) === p.sha256;
  }

  async #fetchOne(p: LockedFile, resolvedAt: string): Promise<boolean> {
    const path = this.path(p);
    const encoded = p.filename.split("/").map(encodeURIComponent).join("/");
    const sources = [
      `${this.#mirror[p.archive]}/${encoded}`,
      `http://snapshot.debian.org/archive/${p.archive}/${resolvedAt}/${encoded}`,
    ];
    for (const url of sources) {
      const bytes = await download(url, p.size);
      if (bytes === undefined) continue;
      if (sha256Hex(bytes) !== p.sha256) {
        throw new AppError(
          "os-build/package-unavailable",
          `${url} is not the package that was locked`,
        );
      }
      await writeFileAtomic(path, bytes, 0o644);
      return true;
    }
    return false;
  }
}

/** The body, or undefined when this source does not have it or cannot be reached. */
async function download(url: string, size: number): Promise<Uint8Array | undefined> {
  for (let attempt = 1; attempt <= 3; attempt++) {
    try {
      const response = await fetch(url, { signal: AbortSignal.timeout(TIMEOUT_MS) });
      if (response.ok) {
        const bytes = new Uint8Array(await response.arrayBuffer());
        return bytes.length === size ? bytes : undefined;
      }
      await response.body?.cancel();
      if (response.status < 500 && response.status !== 429) return undefined;
    } catch (error) {
      const cause = error instanceof Error ? error.cause : undefined;
      const code = (cause as { code?: string } | undefined)?.code;
      if (code === "ENOTFOUND" || code === "EAI_AGAIN" || code === "ECONNREFUSED") return undefined;
    }
    await new Promise((resolve) => setTimeout(resolve, 500 * attempt));
  }
  return undefined;
}

function sha256Hex(bytes: Uint8Array): string {
  return createHash("sha256").update(bytes).digest("hex");
}
