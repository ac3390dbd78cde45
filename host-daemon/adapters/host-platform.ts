import { spawn } from "node:child_process";
import { constants } from "node:fs";
import { access, readFile } from "node:fs/promises";
import { cpus, release } from "node:os";
import { delimiter, join } from "node:path";
import process from "node:process";
import { readFileIfExists, writeFileAtomic } from "#adapters/files.ts";
import { run } from "#adapters/processes.ts";
import { AppError } from "#core/errors/app-error.ts";
import type { DstackdConfig } from "../config.ts";
import { parseQemuVersion, type QemuVersion, requireQemu } from "../qemu/version.ts";
import type { HostPlatform } from "../vmm/launcher.ts";
import { unpackedKernel } from "./unpacked-kernel.ts";

const QEMU_COMMAND = "qemu-system-x86_64";
/** A kernel without root file system panics within a second or two where KVM works. */
const KVM_PROBE_TIMEOUT_MS = 12_000;
const MAX_PROBE_OUTPUT = 1024 * 1024;

/** Finds out what this host can do. Throws `host/qemu-unusable`, `host/qemu-too-old`, `host/tee-unavailable`. */
export async function examineHost(
  config: DstackdConfig["cvm"],
  statePath: string,
  log: (message: string, facts: Readonly<Record<string, unknown>>) => void,
): Promise<HostPlatform> {
  const qemuPath = await findQemu(config.qemu_path);
  const version = await qemuVersion(qemuPath);
  const hasTdx = await offersTdx();
  const tee = config.platform === "auto" ? (hasTdx ? "tdx" : "simulated") : config.platform;
  requireQemu(version, tee === "tdx");
  if (tee === "tdx" && !hasTdx) {
    throw new AppError(
      "host/tee-unavailable",
      "This host does not offer TDX: it needs /dev/kvm and kvm_intel with tdx=Y",
    );
  }
  let probe: Promise<"kvm" | "tcg"> | undefined;
  const accelerator = async (kernel: string): Promise<"kvm" | "tcg"> => {
    if (config.accelerator !== "auto") return config.accelerator;
    if (!(await isUsable("/dev/kvm", constants.R_OK | constants.W_OK))) return "tcg";
    if (!(await usesHardware())) return "tcg";
    probe ??= rememberedProbe(join(statePath, "kvm-probe.json"), version, async () => {
      const works = await runsGuests(qemuPath, kernel);
      log("KVM was tried", { works });
      return works;
    }).then((works) => works ? "kvm" : "tcg");
    return await probe;
  };
  return {
    tee,
    qemuPath,
    qemuVersion: version.text,
    vsock: await isUsable("/dev/vhost-vsock", constants.R_OK | constants.W_OK),
    accelerator,
    emulatedKernel: (kernel) => unpackedKernel(kernel, join(statePath, "kernels")),
  };
}

async function findQemu(configured: string): Promise<string> {
  const candidates = configured !== ""
    ? [configured]
    : (process.env["PATH"] ?? "").split(delimiter).map((dir) => join(dir, QEMU_COMMAND));
  for (const path of candidates) if (await isUsable(path, constants.X_OK)) return path;
  throw new AppError(
    "host/qemu-unusable",
    configured === ""
      ? `${QEMU_COMMAND} is not on the PATH: install QEMU 10 or newer, or set cvm.qemu_path`
      : `cvm.qemu_path names no program that can be run: ${configured}`,
  );
}

async function qemuVersion(path: string): Promise<QemuVersion> {
  try {
    const { stdout } = await run([path, "--version"], { timeoutMs: 20_000 });
    return parseQemuVersion(new TextDecoder().decode(stdout));
  } catch (cause) {
    if (cause instanceof AppError && cause.code === "host/qemu-unusable") throw cause;
    throw new AppError("host/qemu-unusable", `${path} cannot be run`, { cause });
  }
}

async function offersTdx(): Promise<boolean> {
  if (!(await isUsable("/dev/kvm", constants.R_OK | constants.W_OK))) return false;
  try {
    const text = await readFile("/sys/module/kvm_intel/parameters/tdx", "utf8");
    return text.trim() === "Y";
  } catch {
    return false; // no such module, or one too old to know TDX
  }
}

/** The answer of an earlier probe holds while kernel, processor and QEMU stay the same. */
async function rememberedProbe(
  path: string,
  version: QemuVersion,
  probe: () => Promise<boolean>,
): Promise<boolean> {
  const host = `${release()} ${cpus()[0]?.model} QEMU ${version.text}`;
  const remembered = await readFileIfExists(path, 4096);
  if (remembered !== undefined) {
    const known: unknown = JSON.parse(new TextDecoder().decode(remembered));
    const { host: then, works } = known as { host?: unknown; works?: unknown };
    if (then === host && typeof works === "boolean") return works;
  }
  const works = await probe();
  await writeFileAtomic(path, JSON.stringify({ host, works }));
  return works;
}

/** KVM without Intel's or AMD's module (such as kvm_pvm) runs guests made for it, not ours. */
async function usesHardware(): Promise<boolean> {
  const modules = ["/sys/module/kvm_intel", "/sys/module/kvm_amd"];
  return (await Promise.all(modules.map((path) => isUsable(path, constants.F_OK)))).includes(true);
}

/** Whether KVM runs `kernel` to the point where it looks for its root file system. */
function runsGuests(qemuPath: string, kernel: string): Promise<boolean> {
  const args = ["-accel", "kvm", "-machine", "q35", "-cpu", "host", "-m", "512M", "-smp", "2"];
  args.push("-display", "none", "-nodefaults", "-no-reboot", "-serial", "stdio");
  args.push("-kernel", kernel, "-append", "console=ttyS0 panic=-1");
  return new Promise((resolve) => {
    const child = spawn(qemuPath, args, { stdio: ["ignore", "pipe", "pipe"] });
    let output = "";
    const timer = setTimeout(() => child.kill("SIGKILL"), KVM_PROBE_TIMEOUT_MS);
    child.stdout.setEncoding("latin1");
    child.stdout.on("data", (chunk) => {
      if (output.length < MAX_PROBE_OUTPUT) output += chunk;
      if (hasReachedRoot(output)) child.kill("SIGKILL");
    });
    child.stderr.setEncoding("latin1");
    child.stderr.on("data", (chunk) => {
      // QEMU stops the guest and waits: some nested KVMs cannot run a current kernel.
      if (String(chunk).includes("KVM internal error")) child.kill("SIGKILL");
    });
    child.on("error", () => resolve(false));
    child.on("close", () => {
      clearTimeout(timer);
      resolve(hasReachedRoot(output));
    });
  });
}

/** init/do_mounts.c: the last words of a kernel that has no root file system. */
function hasReachedRoot(serial: string): boolean {
  return serial.includes("Unable to mount root fs") || serial.includes("Cannot open root device");
}

async function isUsable(path: string, mode: number): Promise<boolean> {
  return await access(path, mode).then(() => true, () => false);
}
