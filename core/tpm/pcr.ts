import type { AppError } from "../errors/app-error.ts";

/** PCRs a TPM or Nitro module has at most. */
const MAX_PCRS = 32;

/** Platform configuration registers of one hash, by index. */
export type PcrBank = ReadonlyMap<number, Uint8Array>;

/** Each index once and in range, each value of that many bytes. */
export function requirePcrBank(
  entries: readonly (readonly [index: number, value: Uint8Array])[],
  bytes: number,
  malformed: (why: string) => AppError,
): PcrBank {
  const bank = new Map<number, Uint8Array>();
  for (const [index, value] of entries) {
    if (index < 0 || index >= MAX_PCRS) throw malformed(`has a register ${index}`);
    if (bank.has(index)) throw malformed(`has register ${index} twice`);
    if (value.length !== bytes) {
      throw malformed(`has ${value.length} bytes in register ${index}, expected ${bytes}`);
    }
    bank.set(index, value);
  }
  return bank;
}
