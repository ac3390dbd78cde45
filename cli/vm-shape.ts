import { Command, Option } from "commander";
import { fromUtf8 } from "#core/bytes/bytes.ts";
import { parseStrictJson } from "#core/encoding/strict-json.ts";
import { AppError } from "#core/errors/app-error.ts";
import { vmConfigOf } from "#core/attestation/vm-config-text.ts";
import { parseVmConfig, type VmConfig } from "#core/measurement/vm-config.ts";
import type { CliPorts } from "./context.ts";
import { parseWhole } from "./count.ts";
import { readInput } from "./input-file.ts";
import { parseBytes, parseMib } from "./size.ts";

/** The options that make up a VM's shape, as commander names them. */
export interface ShapeOptions {
  readonly cpu?: string;
  readonly memory?: string;
  readonly qemu?: string;
  readonly gpus?: string;
  readonly nvswitches?: string;
  readonly nics?: string;
  readonly volumes?: string;
  readonly share?: string;
  readonly hotplugOff?: boolean;
  readonly pciHole64Size?: string;
  readonly hugepages?: boolean;
  readonly swtpm?: boolean;
  readonly pic?: string;
  readonly twoPass?: string;
}

const ON_OFF = ["on", "off"];

export function withShapeOptions(command: Command): Command {
  return command
    .option("--cpu <n>", "processors (1)")
    .option("--memory <size>", "memory such as 2G or 512M (2G)")
    .option("--qemu <version>", "QEMU's version (9.1.0, as verifiers assume)")
    .option("--gpus <n>", "GPUs passed through (0)")
    .option("--nvswitches <n>", "NVSwitches passed through with them (0)")
    .option("--nics <n>", "network cards (1)")
    .option("--volumes <n>", "dm-verity volumes (0)")
    .option("--share <mode>", "how the host shares its folder: 9p, vhd or vvfat (9p)")
    .option("--hotplug-off", "no ACPI hot plug of PCI devices")
    .option("--pci-hole64-size <size>", "64-bit PCI window such as 16T (QEMU's 32G)")
    .option("--hugepages", "memory from huge pages, on one NUMA node")
    .option("--swtpm", "a software TPM: refused, as nobody predicts its registers")
    .addOption(
      new Option("--pic <on|off>", "legacy interrupt controller (on up to QEMU 8)").choices(ON_OFF),
    )
    .addOption(
      new Option("--two-pass <on|off>", "pages measured after all were added (on up to QEMU 8)")
        .choices(ON_OFF),
    );
}

/** The shape that options tell; what they leave open is `base`'s. */
export function shapeOf(options: ShapeOptions, base: VmConfig = defaultShape()): VmConfig {
  const count = (value: string | undefined, otherwise: number, name: string) =>
    value === undefined ? otherwise : parseWhole(value, name);
  const { cpu, memory, pciHole64Size, qemu, pic, twoPass } = options;
  return {
    ...base,
    cpuCount: count(cpu, base.cpuCount, "--cpu"),
    memoryBytes: memory === undefined ? base.memoryBytes : parseMib(memory, "--memory") * 2 ** 20,
    ...(qemu !== undefined && { qemuVersion: qemu }),
    ...(pic !== undefined && { pic: pic === "on" }),
    ...(twoPass !== undefined && { twoPassAddPages: twoPass === "on" }),
    numGpus: count(options.gpus, base.numGpus, "--gpus"),
    numNvswitches: count(options.nvswitches, base.numNvswitches, "--nvswitches"),
    numNics: count(options.nics, base.numNics, "--nics"),
    numVerityVolumes: count(options.volumes, base.numVerityVolumes, "--volumes"),
    hostShareMode: options.share ?? base.hostShareMode,
    hotplugOff: options.hotplugOff ?? base.hotplugOff,
    pciHole64Size: pciHole64Size === undefined
      ? base.pciHole64Size
      : parseBytes(pciHole64Size, "--pci-hole64-size"),
    hugepages: options.hugepages ?? base.hugepages,
    swtpm: options.swtpm ?? base.swtpm,
  };
}

/** What verifiers assume of a configuration that says nothing, with one processor and 2 GiB. */
function defaultShape(): VmConfig {
  return { ...parseVmConfig("{}"), cpuCount: 1, memoryBytes: 2 * 2 ** 30 };
}

/**
 * A shape as words `cpu=4,memory=8G,hotplug-off`, named as the options are, or a JSON file: vm_config
 * as an attestation carries it, or what `dstack measure --json` printed.
 */
export async function readShape(words: string, ports: CliPorts): Promise<VmConfig> {
  const parser = withShapeOptions(new Command("shape")).exitOverride()
    .configureOutput({ writeErr: () => {} });
  const known = new Set(parser.options.map(({ long }) => long!.slice(2)));
  const pairs = words.split(",").map((word) => word.split(/=(.*)/s));
  if (!pairs.every(([key]) => known.has(key!.trim()))) return await readShapeFile(words, ports);
  const argv = pairs.flatMap(([key, value]) =>
    value === undefined ? [`--${key!.trim()}`] : [`--${key!.trim()}`, value.trim()]
  );
  try {
    return shapeOf(parser.parse(argv, { from: "user" }).opts<ShapeOptions>());
  } catch (error) {
    if (error instanceof AppError) throw error;
    const why = error instanceof Error ? error.message.replace(/^error: /, "") : String(error);
    throw new AppError("input/malformed", `Cannot read shape '${words}': ${why}`);
  }
}

export async function readShapeFile(path: string, ports: CliPorts): Promise<VmConfig> {
  const text = fromUtf8(await readInput(path, ports), path);
  const json = parseStrictJson(text, path) as { vm_config?: unknown } | null;
  const nested = json?.vm_config;
  return vmConfigOf(typeof nested === "object" && nested ? JSON.stringify(nested) : text);
}
