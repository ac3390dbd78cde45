/** What the kernel and the image say about the machine, as text of their files. */
export interface SystemFiles {
  readonly meminfo: string;
  readonly loadavg: string;
  readonly uptime: string;
  readonly cpuinfo: string;
  readonly osRelease: string;
  readonly kernelVersion: string;
  readonly disks: readonly Disk[];
}

export interface Disk {
  /** Device. */
  readonly name: string;
  readonly mountPoint: string;
  readonly totalBytes: number;
  /** Free for ordinary users. */
  readonly freeBytes: number;
}

/** guest-agent.md 9.2. Sizes in bytes, load averages times 100. */
export interface SystemInfo {
  readonly osName: string;
  readonly osVersion: string;
  readonly kernelVersion: string;
  readonly cpuModel: string;
  readonly numCpus: number;
  readonly memory: { total: number; available: number; used: number; free: number };
  readonly swap: { total: number; used: number; free: number };
  readonly uptimeSeconds: number;
  readonly loadAverages: readonly [number, number, number];
  readonly disks: readonly Disk[];
}

/** `osReleaseValue`: as guest-facts.ts reads os-release(5). */
export function parseSystemInfo(
  files: SystemFiles,
  osReleaseValue: (text: string, name: string) => string | undefined,
): SystemInfo {
  const memory = (name: string) =>
    Number(new RegExp(`^${name}:\\s+(\\d+)`, "m").exec(files.meminfo)?.[1] ?? 0) * 1024;
  const total = memory("MemTotal");
  const available = memory("MemAvailable");
  const swapTotal = memory("SwapTotal");
  const swapFree = memory("SwapFree");
  const loads = files.loadavg.split(" ").map((load) => Math.trunc(Number(load) * 100));
  const mhz = Math.trunc(Number(/^cpu MHz\s*:\s*([\d.]+)/m.exec(files.cpuinfo)?.[1] ?? 0));
  return {
    osName: osReleaseValue(files.osRelease, "NAME") ?? "",
    osVersion: osReleaseValue(files.osRelease, "VERSION_ID") ?? "",
    kernelVersion: files.kernelVersion,
    cpuModel: `cpu0 @${mhz} MHz`,
    numCpus: files.cpuinfo.match(/^processor\s*:/gm)?.length ?? 0,
    memory: { total, available, used: total - available, free: memory("MemFree") },
    swap: { total: swapTotal, used: swapTotal - swapFree, free: swapFree },
    uptimeSeconds: Math.trunc(Number(files.uptime.split(" ")[0])),
    loadAverages: [loads[0] ?? 0, loads[1] ?? 0, loads[2] ?? 0],
    disks: files.disks,
  };
}
