import { readFile, statfs } from "node:fs/promises";
import type { SystemFiles } from "../agent/system-info.ts";

/** A file of the kernel's, empty where there is none. */
async function textOf(path: string): Promise<string> {
  try {
    return await readFile(path, "utf8");
  } catch {
    return ""; // absent on this kernel, or not for us: shown as nothing
  }
}

export async function readSystemFiles(dataDisks: readonly string[]): Promise<SystemFiles> {
  const [meminfo, loadavg, uptime, cpuinfo, osRelease, kernelVersion, mounts] = await Promise.all([
    textOf("/proc/meminfo"),
    textOf("/proc/loadavg"),
    textOf("/proc/uptime"),
    textOf("/proc/cpuinfo"),
    textOf("/etc/os-release"),
    textOf("/proc/sys/kernel/osrelease"),
    textOf("/proc/mounts"),
  ]);
  const sourceOf = new Map(
    mounts.split("\n").map((line) => line.split(" ")).map(
      ([source = "", target = ""]) => [target, source],
    ),
  );
  const disks = await Promise.all(
    [...dataDisks].sort().filter((disk) => sourceOf.has(disk)).map(async (mountPoint) => {
      const { bsize, blocks, bavail } = await statfs(mountPoint);
      return {
        name: sourceOf.get(mountPoint)!,
        mountPoint,
        totalBytes: blocks * bsize,
        freeBytes: bavail * bsize,
      };
    }),
  );
  return {
    meminfo,
    loadavg,
    uptime,
    cpuinfo,
    osRelease,
    kernelVersion: kernelVersion.trim(),
    disks,
  };
}

/** What the firmware calls the machine. */
export async function readCloud(): Promise<{ vendor: string; product: string }> {
  const [vendor, product] = await Promise.all([
    textOf("/sys/class/dmi/id/sys_vendor"),
    textOf("/sys/class/dmi/id/product_name"),
  ]);
  return { vendor: vendor.trim(), product: product.trim() };
}
