import { createHash } from "node:crypto";
import { copyFile, mkdir, readFile, rename, stat } from "node:fs/promises";
import { fileURLToPath } from "node:url";
import { FIRMWARE_TOOLS } from "../package-set.ts";
import { debootstrap } from "./debootstrap.ts";
import { withScratch } from "./scratch.ts";
import { fetchPackages, type Workspace } from "./workspace.ts";

/**
 * Debian's source package of edk2-stable202502. Pinned here, not in a lock that is refreshed: from 202505
 * on the firmware measures other events into RTMR0 and no verifier in the field would accept it.
 */
const SOURCES = [
  {
    name: "orig.tar.xz",
    archive: "debian",
    filename: "pool/main/e/edk2/edk2_2025.02.orig.tar.xz",
    size: 29646336,
    sha256: "b63b6053d6d89c74d9291f9e96fde1584be99e6fb9c169ba9511505129d6b049",
  },
  {
    name: "debian.tar.xz",
    archive: "debian",
    filename: "pool/main/e/edk2/edk2_2025.02-8+deb13u1.debian.tar.xz",
    size: 53652,
    sha256: "e2a7f6fc58640818416a028d6d5e9dfc255697a7cdc60c14566c236df6bd9b08",
  },
] as const;
/** A moment when snapshot.debian.org had them. */
const SOURCES_AT = "20261122T000000Z";
const EPOCH = 1_740_700_800; // 2025-02-28, the release of edk2-stable202502
const SCRIPT = fileURLToPath(new URL("../firmware/build.sh", import.meta.url));

/**
 * The IntelTdx firmware, built by locked compilers in a root of its own; returns its path. Kept in the
 * cache by sources, compilers and script.
 */
export async function buildFirmware(workspace: Workspace): Promise<string> {
  const { lock } = await fetchPackages(workspace, FIRMWARE_TOOLS);
  const key = createHash("sha256").update(await readFile(SCRIPT))
    .update(SOURCES.map((source) => source.sha256).join("\n"))
    .update(lock.packages.map((p) => p.sha256).join("\n")).digest("hex").slice(0, 16);
  const directory = `${workspace.cache}/firmware`;
  const firmware = `${directory}/ovmf-${key}.fd`;
  if (await stat(firmware).then(() => true, () => false)) return firmware;

  workspace.say("building the TDX firmware from edk2 2025.02 (a few minutes, once)");
  return await withScratch(workspace.cache, "firmware", async (work) => {
    await mkdir(`${work}/build`);
    for (const source of SOURCES) {
      await copyFile(
        await workspace.store.fetchFile(source, SOURCES_AT),
        `${work}/build/${source.name}`,
      );
    }
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
