import { AppError } from "#core/errors/app-error.ts";

/** The two archives packages come from; they keep separate pools on a mirror. */
export type DebianArchive = "debian" | "debian-security";

/** One Debian package, named down to its bytes. */
export interface LockedPackage extends LockedFile {
  readonly name: string;
  readonly version: string;
  readonly architecture: "amd64" | "all";
}

/** One file of a Debian archive, named down to its bytes. */
export interface LockedFile {
  readonly archive: DebianArchive;
  /** Path below the archive's root, as its `Packages` index gives it. */
  readonly filename: string;
  /** Bytes. */
  readonly size: number;
  /** 64 lowercase hex digits. */
  readonly sha256: string;
}

/** The packages of one set, sorted by name. */
export interface PackageLock {
  readonly schema: 1;
  readonly set: string;
  /** When apt resolved it, `YYYYMMDDTHHMMSSZ`: the snapshot.debian.org view that holds every file. */
  readonly resolvedAt: string;
  /** What was asked for: a lock made for other roots is stale. */
  readonly roots: readonly string[];
  readonly packages: readonly LockedPackage[];
}

/** The tar files of one Debian source package. */
export interface SourceLock {
  readonly schema: 1;
  readonly source: string;
  readonly version: string;
  /** As in `PackageLock`. */
  readonly resolvedAt: string;
  readonly files: readonly LockedFile[];
}

const NAME = /^[a-z0-9][a-z0-9+.-]+$/;
const VERSION = /^[0-9][A-Za-z0-9.+~:-]*$/;
const FILENAME = /^pool\/(?:[A-Za-z0-9+~_.-]+\/)+[A-Za-z0-9+~_.%-]+\.(?:deb|tar\.[gx]z)$/;
const RESOLVED_AT = /^\d{8}T\d{6}Z$/;
const MAX_PACKAGES = 2000;

/** Reads a lock file; refuses anything a package fetch could be misled by. */
export function parsePackageLock(text: string): PackageLock {
  const lock = parseObject(text);
  if (lock["schema"] !== 1) bad(`unknown schema ${String(lock["schema"])}`);
  const packages = lock["packages"];
  if (!Array.isArray(packages)) bad("packages is not a list");
  if (packages.length > MAX_PACKAGES) bad(`more than ${MAX_PACKAGES} packages`);
  const parsed = packages.map(parsePackage);
  for (let i = 1; i < parsed.length; i++) {
    const [before, here] = [parsed[i - 1]!.name, parsed[i]!.name];
    if (before >= here) bad(`${here} is out of order or listed twice`);
  }
  const roots = lock["roots"];
  if (!Array.isArray(roots)) bad("roots is not a list");
  return {
    schema: 1,
    set: matching(lock["set"], "set", NAME),
    resolvedAt: matching(lock["resolvedAt"], "resolvedAt", RESOLVED_AT),
    roots: roots.map((root) => matching(root, "roots", NAME)),
    packages: parsed,
  };
}

export function parseSourceLock(text: string): SourceLock {
  const lock = parseObject(text);
  if (lock["schema"] !== 1) bad(`unknown schema ${String(lock["schema"])}`);
  const files = lock["files"];
  if (!Array.isArray(files)) bad("files is not a list");
  return {
    schema: 1,
    source: matching(lock["source"], "source", NAME),
    version: matching(lock["version"], "version", VERSION),
    resolvedAt: matching(lock["resolvedAt"], "resolvedAt", RESOLVED_AT),
    files: files.map((file) => parseFile(object(file, "file"))),
  };
}

export function encodeSourceLock(lock: SourceLock): string {
  return JSON.stringify(lock, null, 2) + "\n";
}

/** The one textual form of a lock. */
export function encodePackageLock(lock: PackageLock): string {
  const packages = [...lock.packages].sort((a, b) => (a.name < b.name ? -1 : 1));
  return JSON.stringify({ ...lock, packages }, null, 2) + "\n";
}

/** What differs between two locks, one line a package, for people. */
export function describeLockChanges(before: PackageLock, after: PackageLock): string[] {
  const old = new Map(before.packages.map((p) => [p.name, p]));
  const lines: string[] = [];
  for (const p of after.packages) {
    const was = old.get(p.name);
    old.delete(p.name);
    if (was === undefined) lines.push(`+ ${p.name} ${p.version}`);
    else if (was.version !== p.version) lines.push(`~ ${p.name} ${was.version} -> ${p.version}`);
    else if (was.sha256 !== p.sha256) lines.push(`! ${p.name} ${p.version}: other bytes`);
  }
  for (const p of old.values()) lines.push(`- ${p.name} ${p.version}`);
  return lines;
}

function parsePackage(value: unknown): LockedPackage {
  const p = object(value, "package");
  const name = matching(p["name"], "name", NAME);
  const architecture = p["architecture"];
  if (architecture !== "amd64" && architecture !== "all") bad(`${name} is not for amd64`);
  const version = matching(p["version"], `version of ${name}`, VERSION);
  return { name, version, architecture, ...parseFile(p) };
}

function parseFile(file: Record<string, unknown>): LockedFile {
  const filename = matching(file["filename"], "filename", FILENAME);
  if (filename.split("/").includes("..")) bad(`${filename} leaves the pool`);
  const archive = file["archive"];
  if (archive !== "debian" && archive !== "debian-security") {
    bad(`${filename} is of another archive`);
  }
  const size = file["size"];
  if (typeof size !== "number" || !Number.isSafeInteger(size) || size <= 0) {
    bad(`size of ${filename}`);
  }
  const sha256 = matching(file["sha256"], `sha256 of ${filename}`, /^[0-9a-f]{64}$/);
  return { archive, filename, size, sha256 };
}

function parseObject(text: string): Record<string, unknown> {
  try {
    return object(JSON.parse(text), "lock");
  } catch (cause) {
    if (cause instanceof AppError) throw cause;
    throw new AppError("input/malformed", "Cannot parse package lock: not JSON", { cause });
  }
}

function object(value: unknown, what: string): Record<string, unknown> {
  if (typeof value !== "object" || value === null || Array.isArray(value)) {
    bad(`${what} is not an object`);
  }
  return value as Record<string, unknown>;
}

function matching(value: unknown, field: string, pattern: RegExp): string {
  if (typeof value !== "string" || !pattern.test(value)) {
    bad(`${field} is ${JSON.stringify(value)}`);
  }
  return value as string;
}

function bad(what: string): never {
  throw new AppError("input/malformed", `Cannot parse package lock: ${what}`);
}
