import { mkdir, readFile } from "node:fs/promises";
import { dirname, resolve } from "node:path";
import { fileURLToPath } from "node:url";
import { writeFileAtomic } from "#adapters/files.ts";
import { AppError } from "#core/errors/app-error.ts";
import {
  encodePackageLock,
  type LockedPackage,
  type PackageLock,
  parsePackageLock,
} from "../lock.ts";
import type { PackageSet } from "../package-set.ts";
import { PrivateApt } from "./apt.ts";
import { findMirror, type Mirror } from "./mirror.ts";
import { withScratch } from "./scratch.ts";
import { PackageStore } from "./package-store.ts";

/** What every build step needs: where things are and how to speak to the user. */
export interface Workspace {
  /** Root of the source tree, absolute. */
  readonly root: string;
  /** Everything that can be made again, absolute. */
  readonly cache: string;
  readonly mirror: Mirror;
  readonly store: PackageStore;
  readonly say: (line: string) => void;
}

export async function openWorkspace(say: (line: string) => void): Promise<Workspace> {
  const root = resolve(dirname(fileURLToPath(import.meta.url)), "../../..");
  const cache = resolve(process.env["DSTACK_CACHE"] ?? `${root}/.cache`);
  await mkdir(cache, { recursive: true });
  const mirror = await findMirror(process.env);
  return { root, cache, mirror, store: new PackageStore(`${cache}/debs`, mirror), say };
}

export function lockPath(workspace: Workspace, set: PackageSet): string {
  return `${workspace.root}/guest/os/lock/${set.name}.json`;
}

export async function readCommittedLock(
  workspace: Workspace,
  set: PackageSet,
): Promise<PackageLock> {
  return parsePackageLock(await readFile(lockPath(workspace, set), "utf8"));
}

/** Runs `action` with an apt that knows what the mirror has today. */
export async function withApt<T>(
  workspace: Workspace,
  action: (apt: PrivateApt) => Promise<T>,
): Promise<T> {
  return await withScratch(workspace.cache, "apt", async (directory) => {
    const apt = new PrivateApt(directory, workspace.mirror);
    await apt.update();
    return await action(apt);
  });
}

/** A lock whose packages are all in the store, and whether it is the committed one. */
export interface FetchedLock {
  readonly lock: PackageLock;
  readonly committed: boolean;
}

/**
 * Fetches a set: the locked files from the mirror, else from snapshot.debian.org; when neither has one
 * of them any more, today's versions of all, said so loudly.
 */
export async function fetchPackages(workspace: Workspace, set: PackageSet): Promise<FetchedLock> {
  const committed = await readCommittedLock(workspace, set);
  const gone = await download(workspace, committed);
  if (gone.length === 0) return { lock: committed, committed: true };
  const names = gone.map((p) => `${p.name} ${p.version}`).sort();
  workspace.say(
    `WARNING: neither the mirror nor snapshot.debian.org has ${names.length} of the ` +
      `${committed.packages.length} packages locked for ${set.name}: ${
        names.slice(0, 5).join(", ")
      }` +
      `${names.length > 5 ? ", ..." : ""}`,
  );
  workspace.say(
    `WARNING: using today's versions of ${set.name} instead; what is built differs from a release. ` +
      "`dstack image lock` refreshes the committed lock.",
  );
  const remembered = `${workspace.cache}/resolved-locks/${set.name}-${committed.resolvedAt}.json`;
  const earlier = await readFile(remembered, "utf8").then(parsePackageLock).catch(() => undefined);
  if (earlier !== undefined && (await download(workspace, earlier)).length === 0) {
    return { lock: earlier, committed: false };
  }
  const today = await withApt(workspace, (apt) => apt.resolve(set, new Date()));
  const [missing] = await download(workspace, today);
  if (missing !== undefined) {
    throw new AppError(
      "os-build/package-unavailable",
      `The mirror lists ${missing.filename} and does not serve it`,
    );
  }
  await writeFileWhole(remembered, encodePackageLock(today));
  return { lock: today, committed: false };
}

/** Writes a file whole or not at all, creating its folder; nothing secret. */
export async function writeFileWhole(path: string, content: string | Uint8Array): Promise<void> {
  await mkdir(dirname(path), { recursive: true });
  await writeFileAtomic(path, content, 0o644);
}

async function download(workspace: Workspace, lock: PackageLock): Promise<LockedPackage[]> {
  const bytes = lock.packages.reduce((sum, p) => sum + p.size, 0);
  const megabytes = Math.round(bytes / 1e6);
  let reported = 0;
  return await workspace.store.fetch(lock, (done, total) => {
    const tenth = Math.floor((done * 10) / total);
    if (total >= 20 && tenth > reported && done < total) {
      workspace.say(`packages for ${lock.set}: ${done} of ${total} (${megabytes} MB in all)`);
    }
    reported = tenth;
  });
}
