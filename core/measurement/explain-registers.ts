import { equalBytes, toHex } from "../bytes/bytes.ts";
import { AppError } from "../errors/app-error.ts";
import { parseAcpiTables } from "./acpi/acpi-table.ts";
import { encodeAcpiBlobs } from "./acpi/blobs.ts";
import { acpiMachineOf } from "./acpi/vm-machine.ts";
import { sha256Of } from "./digest.ts";
import type { ExpectedRegisters } from "./expected-registers.ts";
import { MeasuredImage, type TdxImageFiles } from "./measure-image.ts";
import { qemuReleaseOf, type VmConfig } from "./vm-config.ts";

export const REGISTER_NAMES = ["mrtd", "rtmr0", "rtmr1", "rtmr2"] as const;
export type RegisterName = (typeof REGISTER_NAMES)[number];

/** An image in a VM. */
export interface MeasuredVm {
  readonly files: TdxImageFiles;
  readonly config: VmConfig;
}

/** An input that differs between two VMs, its values as people write them. */
export interface InputChange {
  readonly input: string;
  readonly before: string;
  readonly after: string;
}

/** What changing some inputs did to the registers, the changes before it already made. */
export interface RegisterMove {
  /** More than one only when no VM has one of them without the next. */
  readonly inputs: readonly InputChange[];
  readonly registers: readonly RegisterName[];
  /** Labels of boot events with another digest; ACPI tables by name. */
  readonly events: readonly string[];
}

/**
 * Which input moved which register on the way from one VM to another: the inputs that differ are
 * changed one after the other. Throws `measurement/unsupported` when either VM cannot be measured.
 */
export async function explainRegisters(
  before: MeasuredVm,
  after: MeasuredVm,
): Promise<RegisterMove[]> {
  const moves: RegisterMove[] = [];
  let here = await MeasuredStep.of(before);
  let pending: InputChange[] = [];
  const steps = await stepsBetween(before, after);
  let vm = before;
  for (const [i, { change, apply }] of steps.entries()) {
    vm = apply(vm);
    pending.push(change);
    const there = await here.moveTo(vm, i < steps.length - 1);
    if (there === undefined) continue;
    moves.push({ inputs: pending, ...there.movesSince(here) });
    here = there;
    pending = [];
  }
  return moves;
}

/** A VM on the way, and its registers. */
class MeasuredStep {
  readonly #vm: MeasuredVm;
  readonly #image: MeasuredImage;
  readonly #registers: ExpectedRegisters;

  private constructor(vm: MeasuredVm, image: MeasuredImage, registers: ExpectedRegisters) {
    this.#vm = vm;
    this.#image = image;
    this.#registers = registers;
  }

  static async of(vm: MeasuredVm, image = new MeasuredImage(vm.files)): Promise<MeasuredStep> {
    return new MeasuredStep(vm, image, await image.measureVm(vm.config));
  }

  /** Undefined for a VM that exists with a further change only, if there is one. */
  async moveTo(vm: MeasuredVm, hasNext: boolean): Promise<MeasuredStep | undefined> {
    try {
      return await MeasuredStep.of(vm, vm.files === this.#vm.files ? this.#image : undefined);
    } catch (error) {
      const exists = !(error instanceof AppError && error.code === "measurement/unsupported");
      if (exists || !hasNext) throw error;
      return undefined;
    }
  }

  movesSince(earlier: MeasuredStep): Pick<RegisterMove, "registers" | "events"> {
    const [was, is] = [earlier.#registers, this.#registers];
    const values = ({ mrTd, rtmrs }: ExpectedRegisters) => [mrTd, ...rtmrs];
    const registers = REGISTER_NAMES.filter((_, i) => !equalBytes(values(was)[i]!, values(is)[i]!));
    const events = is.events
      .filter(({ digest }, i) => !equalBytes(digest, was.events[i]!.digest))
      .map(({ label }) =>
        label === "acpi_tables" ? `${label} (${this.#tablesSince(earlier).join(", ")})` : label
      );
    return { registers, events };
  }

  #tablesSince(earlier: MeasuredStep): string[] {
    const was = tablesByName(earlier.#vm.config);
    return [...tablesByName(this.#vm.config)]
      .filter(([signature, bytes]) =>
        toHex(was.get(signature) ?? new Uint8Array()) !== toHex(bytes)
      )
      .map(([signature]) => signature);
  }
}

function tablesByName(config: VmConfig): Map<string, Uint8Array> {
  const { tables } = encodeAcpiBlobs(acpiMachineOf(config));
  return new Map(
    parseAcpiTables(tables).map(({ signature, offset, length }) =>
      [signature, tables.subarray(offset, offset + length)] as const
    ),
  );
}

interface Step {
  readonly change: InputChange;
  readonly apply: (vm: MeasuredVm) => MeasuredVm;
}

async function stepsBetween(before: MeasuredVm, after: MeasuredVm): Promise<Step[]> {
  const steps: Step[] = [];
  for (const part of ["firmware", "kernel", "initrd", "cmdline"] as const) {
    const [was, is] = [before.files[part], after.files[part]];
    const same = typeof was === "string" || typeof is === "string"
      ? was === is
      : was === is || equalBytes(was, is);
    if (same) continue;
    steps.push({
      change: { input: part, before: await nameOf(was), after: await nameOf(is) },
      apply: (vm) => ({ ...vm, files: { ...vm.files, [part]: is } }),
    });
  }
  for (const [input, member, show] of CONFIG_INPUTS) {
    const [was, is] = [show(before.config), show(after.config)];
    if (was === is) continue;
    const value = after.config[member];
    steps.push({
      change: { input, before: was, after: is },
      apply: (vm) => ({ ...vm, config: withMember(vm.config, member, value) }),
    });
  }
  return steps;
}

function withMember<K extends keyof VmConfig>(
  config: VmConfig,
  member: K,
  value: VmConfig[K],
): VmConfig {
  const { [member]: _, ...rest } = config;
  return (value === undefined ? rest : { ...rest, [member]: value }) as VmConfig;
}

/** The text itself, or the start of a file's SHA-256. */
async function nameOf(part: Uint8Array | string): Promise<string> {
  if (typeof part === "string") return part;
  return `sha256:${toHex(await sha256Of(part)).slice(0, 16)}`;
}

const onOff = (value: boolean | undefined) =>
  value === undefined ? "by release" : value ? "on" : "off";

/** In an order in which each has its effect: what decides defaults and what others hang on first. */
const CONFIG_INPUTS: readonly (readonly [
  input: string,
  member: keyof VmConfig,
  show: (config: VmConfig) => string,
])[] = [
  ["qemu", "qemuVersion", (config) => qemuReleaseOf(config).join(".")],
  ["two-pass", "twoPassAddPages", (config) => onOff(config.twoPassAddPages)],
  ["pic", "pic", (config) => onOff(config.pic)],
  ["cpu", "cpuCount", (config) => String(config.cpuCount)],
  ["memory", "memoryBytes", (config) => `${config.memoryBytes / 2 ** 20} MiB`],
  ["hugepages", "hugepages", (config) => onOff(config.hugepages)],
  ["volumes", "numVerityVolumes", (config) => String(config.numVerityVolumes)],
  ["nics", "numNics", (config) => String(config.numNics)],
  ["share", "hostShareMode", (config) => config.hostShareMode || "9p"],
  ["gpus", "numGpus", (config) => String(config.numGpus)],
  ["nvswitches", "numNvswitches", (config) => String(config.numNvswitches)],
  ["hotplug-off", "hotplugOff", (config) => onOff(config.hotplugOff)],
  ["pci-hole64-size", "pciHole64Size", (config) => `${config.pciHole64Size / 2 ** 30} GiB`],
  ["swtpm", "swtpm", (config) => onOff(config.swtpm)],
];
