import { mkdir, readFile } from "node:fs/promises";
import { setTimeout as sleep } from "node:timers/promises";
import { AppError } from "#core/errors/app-error.ts";
import type { HostFiles } from "../boot/host-files.ts";
import type { Run } from "../ports.ts";
import { findFatVolume } from "./block-devices.ts";
import { copyHostFiles } from "./host-file-copy.ts";

const LABEL = "DSTACKSHR";
const TAG = "host-shared";
const MOUNT_POINT = "/tmp/.host-shared";
const WAIT_TRIES = 20;
const WAIT_MS = 100;

/**
 * Mounts the host's share read-only, copies its files (host-file-copy.ts) and unmounts it for good.
 * The share is a disk with a FAT label, or a 9p or virtiofs directory. Throws `guest/host-share`.
 */
export async function takeHostFiles(run: Run, targetDir: string): Promise<HostFiles> {
  await mountHostShare(run, MOUNT_POINT);
  try {
    return await copyHostFiles(MOUNT_POINT, targetDir);
  } finally {
    await unmountHostShare(run, MOUNT_POINT);
  }
}

export async function mountHostShare(run: Run, mountPoint: string): Promise<void> {
  await mkdir(mountPoint, { recursive: true, mode: 0o700 });
  const failures: string[] = [];
  for (let attempt = 0; attempt < WAIT_TRIES; attempt++) {
    const device = await findFatVolume(LABEL);
    const ways: (readonly string[])[] = device === undefined
      ? await shareTypes()
      : [["vfat", "ro,nodev,nosuid,noexec", device]];
    for (const [type, options, source] of ways) {
      const { code, stderr } = await run([
        "mount",
        "-t",
        type!,
        "-o",
        options!,
        source!,
        mountPoint,
      ]);
      if (code === 0) return;
      failures.push(`${type}: ${stderr.trim()}`);
    }
    if (device !== undefined) break;
    await sleep(WAIT_MS);
  }
  throw new AppError(
    "guest/host-share",
    `No share of the host can be mounted${failures.length > 0 ? `: ${failures.at(-1)}` : ""}`,
  );
}

export async function unmountHostShare(run: Run, mountPoint: string): Promise<void> {
  await run(["umount", mountPoint]);
}

/** Directory shares that the kernel knows by now; asking for others would only load modules. */
async function shareTypes(): Promise<(readonly string[])[]> {
  const known = await readFile("/proc/filesystems", "utf8");
  const ways = [
    ["virtiofs", "ro,nodev,nosuid,noexec", TAG],
    ["9p", "trans=virtio,version=9p2000.L,ro,nodev,nosuid,noexec", TAG],
  ] as const;
  return ways.filter(([type]) => known.split(/\s+/).includes(type));
}
