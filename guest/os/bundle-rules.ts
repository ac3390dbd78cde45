import { AppError } from "#core/errors/app-error.ts";
import type { Flavour } from "./package-set.ts";

/** Texts that only code of the simulated TEE holds: its path on the Host API, and its refusals. */
export const SIMULATION_MARKS: readonly string[] = ["/v1/tee/", "Simulated TEE refused"];

/**
 * A production guest must not be able to talk to a simulated TEE, whatever its command line says; a
 * development guest must hold every mark, or else the marks no longer mark anything.
 */
export function checkBundle(flavour: Flavour, bundle: string): void {
  for (const mark of SIMULATION_MARKS) {
    if (bundle.includes(mark) === (flavour === "dev")) continue;
    throw new AppError(
      "os-build/image-invalid",
      flavour === "dev"
        ? `The development bundle lacks "${mark}", which should tell it from production`
        : `The production bundle holds code of the simulated TEE: "${mark}"`,
    );
  }
}
