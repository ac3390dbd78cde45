import { readFile } from "node:fs/promises";
import { type KernelParameters, parseKernelParameters } from "../boot/kernel-parameters.ts";

export async function readKernelParameters(): Promise<KernelParameters> {
  return parseKernelParameters(await readFile("/proc/cmdline", "utf8"));
}
