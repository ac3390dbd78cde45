import type { SystemInfo } from "./system-info.ts";

/** One gauge of `/metrics`. */
export interface Metric {
  readonly name: string;
  readonly help: string;
  readonly value: number;
  readonly labels?: Readonly<Record<string, string>>;
}

/** The gauges of guest-agent.md 6.4, under the reference's names. */
export function systemMetrics(info: SystemInfo): Metric[] {
  const gauge = (name: string, help: string, value: number): Metric => ({ name, help, value });
  const text = (name: string, help: string, label: string, value: string): Metric => ({
    name,
    help,
    value: 1,
    labels: { [label]: value },
  });
  const [one, five, fifteen] = info.loadAverages;
  const perDisk = (
    name: string,
    help: string,
    valueOf: (disk: SystemInfo["disks"][number]) => number,
  ) =>
    info.disks.map((disk): Metric => ({
      name,
      help,
      value: valueOf(disk),
      labels: { name: disk.name, mount_point: disk.mountPoint },
    }));
  return [
    text("system_os_name", "Name of the operating system", "os_name", info.osName),
    text("system_os_version", "Version of the operating system", "os_version", info.osVersion),
    text("system_kernel_version", "Version of the kernel", "kernel_version", info.kernelVersion),
    text("system_cpu_model", "Model of the processors", "cpu_model", info.cpuModel),
    gauge("system_num_cpus", "Logical processors", info.numCpus),
    gauge("system_memory_total", "Memory in bytes", info.memory.total),
    gauge(
      "system_memory_available",
      "Memory that can be given out, in bytes",
      info.memory.available,
    ),
    gauge("system_memory_used", "Memory in use, in bytes", info.memory.used),
    gauge("system_memory_free", "Memory nobody uses, in bytes", info.memory.free),
    gauge("system_swap_total", "Swap in bytes", info.swap.total),
    gauge("system_swap_used", "Swap in use, in bytes", info.swap.used),
    gauge("system_swap_free", "Swap nobody uses, in bytes", info.swap.free),
    gauge("system_uptime", "Seconds since the boot", info.uptimeSeconds),
    gauge("system_load_average_1m", "Load over one minute, times 100", one),
    gauge("system_load_average_5m", "Load over five minutes, times 100", five),
    gauge("system_load_average_15m", "Load over fifteen minutes, times 100", fifteen),
    ...perDisk("disk_total_size", "Size in bytes", (disk) => disk.totalBytes),
    ...perDisk("disk_free_size", "Free bytes", (disk) => disk.freeBytes),
    ...perDisk("disk_used_size", "Used bytes", (disk) => disk.totalBytes - disk.freeBytes),
    ...perDisk(
      "disk_usage_percentage",
      "Used share in percent",
      (disk) =>
        disk.totalBytes === 0 ? 0 : (disk.totalBytes - disk.freeBytes) / disk.totalBytes * 100,
    ),
  ];
}

/** Prometheus text; samples of one name follow its one header. */
export function renderMetrics(metrics: readonly Metric[]): string {
  const lines: string[] = [];
  const described = new Set<string>();
  for (const { name, help, value, labels } of metrics) {
    if (!described.has(name)) {
      described.add(name);
      lines.push(`# HELP ${name} ${help}`, `# TYPE ${name} gauge`);
    }
    const rendered = Object.entries(labels ?? {}).map(([key, text]) => `${key}="${escape(text)}"`);
    lines.push(`${name}${rendered.length > 0 ? `{${rendered.join(",")}}` : ""} ${value}`);
  }
  return lines.join("\n") + "\n";
}

function escape(label: string): string {
  return label.replaceAll("\\", "\\\\").replaceAll("\n", "\\n").replaceAll('"', '\\"');
}
