import { AppError } from "#core/errors/app-error.ts";

export interface QemuVersion {
  /** As QEMU printed it, without a distribution's suffix after `+`. */
  readonly text: string;
  readonly major: number;
  readonly minor: number;
}

/** The oldest QEMU that runs current guest kernels correctly without KVM (design section 8). */
export const MINIMUM_MAJOR = 10;

/**
 * Reads `qemu-system-… --version`: the word after `version` if it starts with a digit, else the first
 * word that looks like a version; text after `+` is dropped (spec/vmm.md section 7.7).
 */
export function parseQemuVersion(output: string): QemuVersion {
  const words = (output.split("\n")[0] ?? "").split(/[\s()]+/).filter((word) => word !== "");
  const after = words[words.indexOf("version") + 1];
  const word = words.includes("version") && after !== undefined && /^\d/.test(after)
    ? after
    : words.find((candidate) => /^\d+\.\d+/.test(candidate));
  const text = word?.split("+")[0] ?? "";
  const match = /^(\d+)\.(\d+)/.exec(text);
  if (match === null) {
    throw new AppError("host/qemu-unusable", "Cannot read the version QEMU printed", {
      fields: { output: output.slice(0, 200) },
    });
  }
  return { text, major: Number(match[1]), minor: Number(match[2]) };
}

/** Throws `host/qemu-too-old`. */
export function requireQemu(version: QemuVersion, tdx: boolean): void {
  if (version.major < MINIMUM_MAJOR) {
    throw new AppError(
      "host/qemu-too-old",
      `QEMU ${version.text} is too old: QEMU ${MINIMUM_MAJOR} or newer is needed (older ones corrupt ` +
        "the memory of current guest kernels). Install it, or set cvm.qemu_path to a newer one",
      { fields: { found: version.text, needed: `${MINIMUM_MAJOR}.0` } },
    );
  }
  if (tdx && version.major === 10 && version.minor < 1) {
    throw new AppError(
      "host/qemu-too-old",
      `QEMU ${version.text} cannot start TDX guests: QEMU 10.1 or newer is needed`,
      { fields: { found: version.text, needed: "10.1" } },
    );
  }
}
