import type { SnpCpu } from "./report.ts";

/** Families of processors with a root key of their own, as AMD's key service names them. */
export const SNP_PRODUCTS = ["Milan", "Genoa", "Turin"] as const;
export type SnpProduct = (typeof SNP_PRODUCTS)[number];

/** The product of a processor (AMD 57230, VCEK specification, 3.1); undefined for an unknown one. */
export function productOfCpu({ family, model }: SnpCpu): SnpProduct | undefined {
  if (family === 0x19) {
    if (model <= 0x0f) return "Milan";
    const isGenoa = model >= 0x10 && model <= 0x1f || model >= 0xa0 && model <= 0xaf;
    return isGenoa ? "Genoa" : undefined;
  }
  return family === 0x1a && model <= 0x11 ? "Turin" : undefined;
}

/** Security versions of what a platform runs; `fmc` on Turin only. */
export interface SnpTcb {
  readonly fmc?: number;
  readonly bootloader: number;
  readonly tee: number;
  readonly snp: number;
  readonly microcode: number;
}

/** TCB_VERSION, 8 bytes (ABI table 3): Turin put the FMC first. */
export function readSnpTcb(version: Uint8Array, product: SnpProduct): SnpTcb {
  const [b0, b1, b2, b3, , , b6, b7] = version as unknown as number[];
  return product === "Turin"
    ? { fmc: b0!, bootloader: b1!, tee: b2!, snp: b3!, microcode: b7! }
    : { bootloader: b0!, tee: b1!, snp: b6!, microcode: b7! };
}
