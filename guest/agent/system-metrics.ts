/** One gauge of `/metrics` (guest-agent.md 6.4). */
export interface Metric {
  readonly name: string;
  readonly help: string;
  readonly value: number;
  readonly labels?: Readonly<Record<string, string>>;
}

/** Prometheus text, every metric a gauge; samples of one name follow its one header. */
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

/** What the kernel and the image say about the machine, as text of their files. */
export interface SystemFiles {
  readonly meminfo: string;
  readonly loadavg: string;
  readonly uptime: string;
  readonly cpuinfo: string;
  readonly osRelease: string;
  readonly kernelVersion: string;
  readonly disks: readonly {
    readonly name: string;
    readonly mountPoint: string;
    readonly totalBytes: number;
    readonly freeBytes: number;
  }[];
}

export function systemMetrics(
  files: SystemFiles,
  osReleaseValue: (text: string, name: string) => string | undefined,
): Metric[] {
  const memory = (name: string) =>
    Number(new RegExp(`^${name}:\\s+(\\d+)`, "m").exec(files.meminfo)?.[1] ?? 0) * 1024;
  const total = memory("MemTotal");
  const available = memory("MemAvailable");
  const [one = 0, five = 0, fifteen = 0] = files.loadavg.split(" ").map((n) =>
    Math.trunc(Number(n) * 100)
  );
  const cpus = files.cpuinfo.match(/^processor\s*:/gm)?.length ?? 0;
  const mhz = Math.trunc(Number(/^cpu MHz\s*:\s*([\d.]+)/m.exec(files.cpuinfo)?.[1] ?? 0));
  const swapTotal = memory("SwapTotal");
  const swapFree = memory("SwapFree");
  const text = (name: string, help: string, label: string, value: string): Metric => ({
    name,
    help,
    value: 1,
    labels: { [label]: value },
  });
  return [
    text(
      "system_os_name",
      "Name of the operating system",
      "os_name",
      osReleaseValue(files.osRelease, "NAME") ?? "",
    ),
    text(
      "system_os_version",
      "Version of the operating system",
      "os_version",
      osReleaseValue(files.osRelease, "VERSION_ID") ?? "",
    ),
    text("system_kernel_version", "Version of the kernel", "kernel_version", files.kernelVersion),
    text("system_cpu_model", "Model of the processors", "cpu_model", `cpu0 @${mhz} MHz`),
    { name: "system_num_cpus", help: "Logical processors", value: cpus },
    { name: "system_memory_total", help: "Memory in bytes", value: total },
    {
      name: "system_memory_available",
      help: "Memory that can be given out, in bytes",
      value: available,
    },
    { name: "system_memory_used", help: "Memory in use, in bytes", value: total - available },
    { name: "system_memory_free", help: "Memory nobody uses, in bytes", value: memory("MemFree") },
    { name: "system_swap_total", help: "Swap in bytes", value: swapTotal },
    { name: "system_swap_used", help: "Swap in use, in bytes", value: swapTotal - swapFree },
    { name: "system_swap_free", help: "Swap nobody uses, in bytes", value: swapFree },
    {
      name: "system_uptime",
      help: "Seconds since the boot",
      value: Math.trunc(Number(files.uptime.split(" ")[0])),
    },
    { name: "system_load_average_1m", help: "Load over one minute, times 100", value: one },
    { name: "system_load_average_5m", help: "Load over five minutes, times 100", value: five },
    {
      name: "system_load_average_15m",
      help: "Load over fifteen minutes, times 100",
      value: fifteen,
    },
    ...files.disks.flatMap((disk): Metric[] => {
      const labels = { name: disk.name, mount_point: disk.mountPoint };
      const used = disk.totalBytes - disk.freeBytes;
      const percentage = disk.totalBytes === 0 ? 0 : used / disk.totalBytes * 100;
      return [
        { name: "disk_total_size", help: "Size in bytes", value: disk.totalBytes, labels },
        { name: "disk_free_size", help: "Free bytes", value: disk.freeBytes, labels },
        { name: "disk_used_size", help: "Used bytes", value: used, labels },
        { name: "disk_usage_percentage", help: "Used share in percent", value: percentage, labels },
      ];
    }).sort((a, b) => a.name < b.name ? -1 : a.name > b.name ? 1 : 0),
  ];
}
