import { type ChildProcessWithoutNullStreams, execFileSync, spawn } from "node:child_process";
import { existsSync } from "node:fs";
import { createInterface } from "node:readline";
import type { QemuRelease } from "#core/measurement/acpi/machine.ts";

/** Where fw_cfg is on x86, and its file directory (QEMU docs/specs/fw_cfg.rst). */
const DMA_PORT = { high: 0x514, low: 0x518 } as const;
const FILE_DIRECTORY = 0x19;
const CONTROL = { read: 0x2, select: 0x8 } as const;
/** Guest memory the transfers use; the machine never runs, so nobody else does. */
const REQUEST_ADDRESS = 0x1000;
const BUFFER_ADDRESS = 0x10_0000;

/** A QEMU on this machine and its release. */
export interface FoundQemu {
  readonly path: string;
  readonly release: QemuRelease;
}

/**
 * $DSTACK_QEMU, else what scripts/host-tools provided; and the older releases that
 * `scripts/host-tools --older` unpacked beside it.
 */
export function qemus(): FoundQemu[] {
  const cache = process.env["DSTACK_CACHE"] ??
    new URL("../../.cache", import.meta.url).pathname;
  const named = process.env["DSTACK_QEMU"] ?? `${cache}/host-tools/bin/qemu-system-x86_64`;
  return [named, `${cache}/older-qemu/bin/qemu-system-x86_64`]
    .filter((path) => existsSync(path))
    .map((path) => {
      const version = execFileSync(path, ["--version"], { encoding: "utf8" });
      const [, major, minor, patch] = /version ([0-9]+)\.([0-9]+)\.([0-9]+)/.exec(version)!;
      return { path, release: [Number(major), Number(minor), Number(patch)] };
    });
}

/**
 * A QEMU machine that is built but never started, spoken to over qtest (QEMU docs/devel/testing/qtest.rst).
 * What its fw_cfg holds is what firmware would read.
 */
export class FrozenMachine {
  readonly #qemu: ChildProcessWithoutNullStreams;
  readonly #answers: AsyncIterator<string>;
  readonly #errors: string[] = [];

  constructor(qemu: string, machineArguments: readonly string[]) {
    const frozen = ["-accel", "tcg", "-S", "-qtest", "stdio", "-qtest-log", "none"];
    const silent = ["-nodefaults", "-display", "none", "-monitor", "none"];
    this.#qemu = spawn(qemu, [...frozen, ...silent, ...machineArguments]);
    this.#answers = createInterface({ input: this.#qemu.stdout })[Symbol.asyncIterator]();
    this.#qemu.stderr.on("data", (chunk) => this.#errors.push(String(chunk)));
  }

  /** Sets a register in PCI configuration space, as firmware does before it asks for tables. */
  async writePciConfig(slot: number, register: number, value: number): Promise<void> {
    const address = 0x8000_0000 + slot * 0x800 + register;
    await this.#command(`outl 0xcf8 0x${address.toString(16)}`);
    await this.#command(`outl 0xcfc 0x${value.toString(16)}`);
  }

  /** The file's bytes, or undefined when fw_cfg has no such file. */
  async readFile(name: string): Promise<Uint8Array | undefined> {
    const countBytes = await this.readItem(FILE_DIRECTORY, 4);
    const count = new DataView(countBytes.buffer).getUint32(0);
    const directory = await this.readItem(FILE_DIRECTORY, 4 + 64 * count);
    const view = new DataView(directory.buffer);
    for (let at = 4; at < directory.length; at += 64) {
      const entryName = new TextDecoder().decode(directory.subarray(at + 8, at + 64));
      if (entryName.replace(/\0.*$/s, "") !== name) continue;
      return await this.readItem(view.getUint16(at + 4), view.getUint32(at));
    }
    return undefined;
  }

  /** The first `length` bytes of the item that `key` selects. */
  async readItem(key: number, length: number): Promise<Uint8Array> {
    const request = new DataView(new ArrayBuffer(16));
    request.setUint32(0, key * 0x1_0000 + CONTROL.select + CONTROL.read);
    request.setUint32(4, length);
    request.setBigUint64(8, BigInt(BUFFER_ADDRESS));
    const bytes = Buffer.from(request.buffer).toString("hex");
    await this.#command(`write 0x${REQUEST_ADDRESS.toString(16)} 16 0x${bytes}`);
    await this.#command(`outl ${DMA_PORT.high} 0`);
    const swapped = Buffer.alloc(4);
    swapped.writeUInt32BE(REQUEST_ADDRESS);
    await this.#command(`outl ${DMA_PORT.low} ${swapped.readUInt32LE()}`);
    const answer = await this.#command(`b64read 0x${BUFFER_ADDRESS.toString(16)} ${length}`);
    return new Uint8Array(Buffer.from(answer, "base64"));
  }

  async stop(): Promise<void> {
    const exited = new Promise((resolve) => this.#qemu.once("exit", resolve));
    this.#qemu.kill();
    await exited;
  }

  async #command(line: string): Promise<string> {
    this.#qemu.stdin.write(line + "\n");
    const { value, done } = await this.#answers.next();
    if (done) throw new Error(`QEMU ended: ${this.#errors.join("").trim()}`);
    const [status, ...rest] = String(value).split(" ");
    if (status !== "OK") throw new Error(`qtest refused "${line}": ${value}`);
    return rest.join(" ");
  }
}

/** Where OVMF places the 64-bit window; its upper half, as a BAR holds it. */
const HOLE64_HIGH = 0x3800;

/** What OVMF has set when it asks for tables: PCIEXBAR, power management block, a 64-bit BAR in slot 1. */
export async function playFirmware(machine: FrozenMachine): Promise<void> {
  await machine.writePciConfig(0, 0x60, 0xe000_0001);
  await machine.writePciConfig(31, 0x40, 0x601);
  await machine.writePciConfig(31, 0x44, 0x80);
  await machine.writePciConfig(1, 0x24, HOLE64_HIGH);
  await machine.writePciConfig(1, 0x04, 0x2);
}
