import { createHash } from "node:crypto";
import { copyFile, mkdir, readFile, rename, stat } from "node:fs/promises";
import { basename } from "node:path";
import { fileURLToPath } from "node:url";
import { AppError } from "#core/errors/app-error.ts";
import { parseSourceLock, type SourceLock } from "../lock.ts";
import { FIRMWARE_TOOLS } from "../package-set.ts";
import type { PrivateApt } from "./apt.ts";
import { debootstrap } from "./debootstrap.ts";
import { withScratch } from "./scratch.ts";
import { fetchPackages, withApt, type Workspace } from "./workspace.ts";

const LOCK = fileURLToPath(new URL("../lock/firmware-source.json", import.meta.url));
/**
 * Debian's packaging of edk2-stable202502. From 202505 on the firmware measures other events into RTMR0
 * and no verifier in the field would accept it.
 */
const UPSTREAM_VERSION = "2025.02-";
const EPOCH = 1_740_700_800; // 2025-02-28, the release of edk2-stable202502
const SCRIPT = fileURLToPath(new URL("../firmware/build.sh", import.meta.url));

/**
 * The IntelTdx firmware, built by locked compilers in a root of its own; returns its path. Kept in the
 * cache by sources, compilers and script.
 */
export async function buildFirmware(workspace: Workspace): Promise<string> {
  const { lock } = await fetchPackages(workspace, FIRMWARE_TOOLS);
  const sources = await fetchSources(workspace);
  const key = createHash("sha256").update(await readFile(SCRIPT))
    .update([...sources.values()].map((path) => basename(path)).join("\n"))
    .update(lock.packages.map((p) => p.sha256).join("\n")).digest("hex").slice(0, 16);
  const directory = `${workspace.cache}/firmware`;
  const firmware = `${directory}/ovmf-${key}.fd`;
  if (await stat(firmware).then(() => true, () => false)) return firmware;

  workspace.say("building the TDX firmware from edk2 2025.02 (a few minutes, once)");
  return await withScratch(workspace.cache, "firmware", async (work) => {
    await mkdir(`${work}/build`);
    for (const [name, path] of sources) await copyFile(path, `${work}/build/${name}`);
    await copyFile(SCRIPT, `${work}/build/build.sh`);
    await debootstrap(workspace, lock, {
      work,
      target: "/dev/null",
      format: "null",
      epoch: EPOCH,
      extra: [
        `--customize-hook=copy-in ${work}/build /`,
        '--customize-hook=chroot "$1" sh /build/build.sh',
        `--customize-hook=copy-out /build/ovmf.fd ${work}`,
      ],
    });
    await mkdir(directory, { recursive: true });
    await rename(`${work}/ovmf.fd`, firmware);
    return firmware;
  });
}

/** Asks the mirror for the newest packaging of the one upstream version that may be used. */
export async function resolveFirmwareSource(apt: PrivateApt): Promise<SourceLock> {
  return await apt.resolveSource("edk2", UPSTREAM_VERSION, new Date());
}

/** Paths, by digest, of `orig.tar.xz` and `debian.tar.xz`: the locked ones, else today's packaging, said loudly. */
async function fetchSources(workspace: Workspace): Promise<Map<string, string>> {
  const committed = parseSourceLock(await readFile(LOCK, "utf8"));
  try {
    return await fetchAll(workspace, committed);
  } catch (error) {
    if (!(error instanceof AppError) || error.code !== "os-build/package-unavailable") throw error;
    const today = await withApt(workspace, resolveFirmwareSource);
    workspace.say(
      `WARNING: edk2 ${committed.version} is gone, building ${today.version}: the firmware, and ` +
        "with it MRTD, differs from a release",
    );
    return await fetchAll(workspace, today);
  }
}

async function fetchAll(workspace: Workspace, lock: SourceLock): Promise<Map<string, string>> {
  const paths = new Map<string, string>();
  for (const file of lock.files) {
    const name = /\.(?:orig|debian)\.tar\.xz$/.exec(file.filename)?.[0].slice(1);
    if (name === undefined) continue;
    paths.set(name, await workspace.store.fetchFile(file, lock.resolvedAt));
  }
  return paths;
}
