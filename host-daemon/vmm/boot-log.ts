/** Why a guest's serial log says it could not start or go on. */
export interface BootFailure {
  readonly code: "boot/guest-reported" | "boot/rootfs-corrupt" | "boot/kernel-panic";
  readonly text: string;
}

/** Serial lines come from the guest: what is kept of one is bounded. */
const MAX_LINE_LENGTH = 1000;

/**
 * Reads a guest's serial output as it grows and recognises the lines that explain a boot that stopped.
 * A reason the guest names itself outranks dm-verity's, which outranks the panic that follows from it.
 */
export class BootLogScanner {
  #partial = "";
  #failure: BootFailure | undefined;

  get failure(): BootFailure | undefined {
    return this.#failure;
  }

  /** The failure when `chunk` brought a new or better explanation. */
  push(chunk: string): BootFailure | undefined {
    const before = this.#failure;
    const lines = (this.#partial + chunk).split("\n");
    this.#partial = (lines.pop() ?? "").slice(0, MAX_LINE_LENGTH);
    for (const line of lines) this.#line(line.slice(0, MAX_LINE_LENGTH).trimEnd());
    return this.#failure === before ? undefined : this.#failure;
  }

  #line(line: string): void {
    const found = classify(line);
    if (found !== undefined && (this.#failure === undefined || rank(found) < rank(this.#failure))) {
      this.#failure = found;
    }
  }
}

const ORDER: readonly BootFailure["code"][] = [
  "boot/guest-reported",
  "boot/rootfs-corrupt",
  "boot/kernel-panic",
];

function rank(failure: BootFailure): number {
  return ORDER.indexOf(failure.code);
}

function classify(line: string): BootFailure | undefined {
  const reported = /dstack-boot-error code=(\S+)\s*(.*)$/.exec(line);
  if (reported !== null) {
    return { code: "boot/guest-reported", text: `${reported[1]}: ${reported[2]}` };
  }
  if (/(device-mapper: verity|dm-verity|Verity device).*(corrupt|failed|mismatch)/.test(line)) {
    return {
      code: "boot/rootfs-corrupt",
      text: `the root file system does not match its dm-verity hash (${stripTime(line)})`,
    };
  }
  const panic = /Kernel panic - not syncing: (.*)$/.exec(line);
  if (panic !== null) return { code: "boot/kernel-panic", text: `kernel panic: ${panic[1]}` };
  return undefined;
}

/** Without the kernel's `[   12.345678] ` time stamp. */
function stripTime(line: string): string {
  return line.replace(/^\[\s*\d+\.\d+\]\s*/, "");
}
