import { AppError } from "#core/errors/app-error.ts";

/** What the measured command line decides for the guest (spec/os.md 1.4). */
export interface KernelParameters {
  /** Which TEE driver to use; there is no default, so that nothing falls back to a simulation. */
  readonly tee: "tdx" | "sim";
  /** `PARTLABEL=`, `PARTUUID=` or a path under /dev. */
  readonly dataDevice: string | undefined;
  readonly storageEncrypted: boolean;
  readonly storageFs: "ext4" | "zfs" | undefined;
}

/** Throws `config/invalid`. The last of repeated parameters counts, as in the kernel. */
export function parseKernelParameters(cmdline: string): KernelParameters {
  const values = new Map<string, string>();
  for (const word of cmdline.trim().split(/\s+/)) {
    const [name, ...rest] = word.split("=");
    if (name!.startsWith("dstack.")) values.set(name!, rest.join("="));
  }
  const tee = values.get("dstack.tee");
  if (tee !== "tdx" && tee !== "sim") {
    throw invalid("dstack.tee", tee, "tdx or sim");
  }
  const storageFs = values.get("dstack.storage_fs")?.toLowerCase();
  if (storageFs !== undefined && storageFs !== "ext4" && storageFs !== "zfs") {
    throw invalid("dstack.storage_fs", storageFs, "ext4 or zfs");
  }
  return {
    tee,
    dataDevice: values.get("dstack.data_device"),
    storageEncrypted: parseSwitch(values.get("dstack.storage_encrypted")),
    storageFs,
  };
}

function parseSwitch(value: string | undefined): boolean {
  if (value === undefined || ["1", "true", "yes", "on"].includes(value)) return true;
  if (["0", "false", "no", "off"].includes(value)) return false;
  throw invalid("dstack.storage_encrypted", value, "one of 0 false no off 1 true yes on");
}

function invalid(name: string, value: string | undefined, expected: string): AppError {
  return new AppError(
    "config/invalid",
    `Kernel parameter ${name} is ${value ?? "missing"}, expected ${expected}`,
  );
}
