import { AppError } from "#core/errors/app-error.ts";
import { neededLibraries } from "./elf.ts";
import type { Flavour } from "./package-set.ts";
import {
  DROPPED_PATHS,
  FORBIDDEN_IN_PROD,
  FORBIDDEN_PATHS,
  KEPT_PATHS,
  KEPT_PROGRAM_PACKAGES,
  KEPT_PROGRAMS,
  LOADED_LIBRARIES,
  REQUIRED_PATHS,
} from "./root-contents.ts";
import type { TarEntry } from "./tar.ts";

const PROGRAM_FOLDERS = ["usr/bin/", "usr/sbin/"];
const LIBRARY_FOLDER = "usr/lib/x86_64-linux-gnu/";

/**
 * The root file system as a map of paths, built up in steps: what is kept of the installed packages, then
 * our own files, then the libraries all of them need.
 */
export class RootTree {
  readonly #installed = new Map<string, TarEntry>();
  readonly #entries = new Map<string, TarEntry>();

  /** Takes over what `root-contents.ts` keeps of an installed root. */
  constructor(installed: Iterable<TarEntry>) {
    for (const entry of installed) this.#installed.set(entry.path, entry);
    const programs = this.#keptPrograms();
    for (const entry of this.#installed.values()) {
      if (entry.type === "device" || entry.type === "directory") continue;
      if (DROPPED_PATHS.some((pattern) => pattern.test(entry.path))) continue;
      if (programs.has(entry.path) || isKept(entry.path)) this.#keep(entry);
    }
    this.#dropDanglingAlternatives();
  }

  addDirectory(path: string, mode = 0o755): void {
    this.#entries.set(path, { ...ROOT_OWNED, path, type: "directory", mode });
  }

  addFile(path: string, content: Uint8Array, mode: number): void {
    this.#entries.set(path, { ...ROOT_OWNED, path, type: "file", mode, content });
  }

  addSymlink(path: string, target: string): void {
    this.#entries.set(path, { ...ROOT_OWNED, path, type: "symlink", mode: 0o777, target });
  }

  get(path: string): TarEntry | undefined {
    return this.#entries.get(path);
  }

  /** A program of the tree with all it needs to run, for the initramfs: path to entry. */
  programClosure(paths: readonly string[]): TarEntry[] {
    const found = new Map<string, TarEntry>();
    const queue = paths.map((path) => {
      const entry = this.#installed.get(path);
      if (entry === undefined) throw invalid(`${path} is not installed`);
      return entry;
    });
    for (let entry = queue.shift(); entry !== undefined; entry = queue.shift()) {
      if (found.has(entry.path)) continue;
      found.set(entry.path, entry);
      if (entry.type === "file") queue.push(...this.#librariesOf(entry));
    }
    return [...found.values()];
  }

  /**
   * Everything in path order, with the libraries that are needed, and the directories above each entry.
   * Throws when the tree breaks the rules for its flavour.
   */
  finish(flavour: Flavour): TarEntry[] {
    const queue = [...this.#entries.values()].filter((entry) => entry.type === "file");
    const needed = LOADED_LIBRARIES.flatMap((soname) => this.#library(soname, "root-contents.ts"));
    for (let entry = queue.shift(); entry !== undefined; entry = queue.shift()) {
      needed.push(...this.#librariesOf(entry));
      for (const library of needed.splice(0)) {
        if (this.#entries.has(library.path)) continue;
        this.#keep(library);
        queue.push(library);
      }
    }
    this.#addParents();
    this.#check(flavour);
    return [...this.#entries.values()].sort((a, b) => (a.path < b.path ? -1 : 1));
  }

  #keptPrograms(): Set<string> {
    const kept = new Set<string>();
    for (const folder of PROGRAM_FOLDERS) {
      for (const name of KEPT_PROGRAMS) kept.add(folder + name);
    }
    for (const name of KEPT_PROGRAM_PACKAGES) {
      for (const suffix of ["", ":amd64"]) {
        const list = this.#installed.get(`var/lib/dpkg/info/${name}${suffix}.list`);
        for (const line of new TextDecoder().decode(list?.content).split("\n")) {
          const path = mergedUsr(line.replace(/^\//, ""));
          if (PROGRAM_FOLDERS.some((folder) => path.startsWith(folder))) kept.add(path);
        }
      }
    }
    // update-alternatives' names, e.g. usr/sbin/iptables -> /etc/alternatives/iptables
    for (const [path, entry] of this.#installed) {
      if (entry.type === "symlink" && entry.target.startsWith("/etc/alternatives/")) {
        if (PROGRAM_FOLDERS.some((folder) => path.startsWith(folder))) kept.add(path);
      }
    }
    return kept;
  }

  /** Hard links become files of their own: the name that carries the content may be left out. */
  #keep(entry: TarEntry): void {
    if (entry.type !== "hardlink") {
      this.#entries.set(entry.path, entry);
      return;
    }
    const first = this.#installed.get(entry.target);
    if (first?.type !== "file") throw invalid(`${entry.path} is a hard link to no file`);
    this.#entries.set(entry.path, { ...first, path: entry.path });
  }

  #dropDanglingAlternatives(): void {
    const missing = (target: string) => !this.#entries.has(target.replace(/^\//, ""));
    for (const { path, type, target } of [...this.#entries.values()]) {
      if (type !== "symlink" || !path.startsWith("etc/alternatives/")) continue;
      if (missing(target)) this.#entries.delete(path);
    }
    for (const { path, type, target } of [...this.#entries.values()]) {
      if (type !== "symlink" || !target.startsWith("/etc/alternatives/")) continue;
      if (missing(target)) this.#entries.delete(path);
    }
  }

  #librariesOf(entry: TarEntry): TarEntry[] {
    const needed = neededLibraries(entry.content) ?? [];
    return needed.flatMap((soname) => this.#library(soname, entry.path));
  }

  /** The library, or its link and what that points to. */
  #library(soname: string, user: string): TarEntry[] {
    for (const folder of [LIBRARY_FOLDER, `${LIBRARY_FOLDER}systemd/`]) {
      const library = this.#installed.get(folder + soname);
      if (library?.type === "symlink") {
        const target = this.#installed.get(resolvePath(library.path, library.target));
        if (target === undefined) throw invalid(`${library.path} points to nothing`);
        return [library, target];
      }
      if (library !== undefined) return [library];
    }
    throw invalid(`${user} needs ${soname}, which no package holds`);
  }

  #addParents(): void {
    for (const path of [...this.#entries.keys()]) {
      for (let parent = dirname(path); parent !== ""; parent = dirname(parent)) {
        const there = this.#entries.get(parent);
        if (there === undefined) this.addDirectory(parent);
        else if (there.type !== "directory") throw invalid(`${path} lies below a ${there.type}`);
      }
    }
  }

  #check(flavour: Flavour): void {
    for (const path of REQUIRED_PATHS) {
      if (!this.#entries.has(path)) throw invalid(`${path} is missing`);
    }
    const forbidden = flavour === "prod"
      ? [...FORBIDDEN_PATHS, ...FORBIDDEN_IN_PROD]
      : FORBIDDEN_PATHS;
    for (const path of this.#entries.keys()) {
      if (forbidden.some((pattern) => pattern.test(path))) {
        throw invalid(`${path} must not be there`);
      }
    }
  }
}

const ROOT_OWNED = { uid: 0, gid: 0, target: "", content: new Uint8Array(0) } as const;

/** Where a packaged path lies on a system whose /bin, /sbin and /lib point into /usr. */
function mergedUsr(path: string): string {
  return /^(?:bin|sbin|lib|lib64)\//.test(path) ? `usr/${path}` : path;
}

function isKept(path: string): boolean {
  return KEPT_PATHS.some((kept) => path === kept || path.startsWith(`${kept}/`));
}

function dirname(path: string): string {
  const slash = path.lastIndexOf("/");
  return slash === -1 ? "" : path.slice(0, slash);
}

function resolvePath(from: string, target: string): string {
  const parts = target.startsWith("/") ? [] : dirname(from).split("/");
  for (const part of target.split("/")) {
    if (part === "..") parts.pop();
    else if (part !== "." && part !== "") parts.push(part);
  }
  return parts.join("/");
}

function invalid(what: string): AppError {
  return new AppError("os-build/image-invalid", `The image is not complete: ${what}`);
}
