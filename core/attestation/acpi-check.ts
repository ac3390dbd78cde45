import { equalBytes } from "../bytes/bytes.ts";
import { AppError } from "../errors/app-error.ts";
import { refusal } from "../errors/refusal.ts";
import { acpiDigestsOf, type TdxEvent } from "../event-log/tdx-event.ts";
import { acpiDigestsFor } from "../measurement/acpi/blobs.ts";
import { acpiMachineOf } from "../measurement/acpi/vm-machine.ts";
import { qemuReleaseOf } from "../measurement/vm-config.ts";
import type { Appraisal } from "./appraisal.ts";
import { vmConfigOf } from "./vm-config-text.ts";

/**
 * Whether the ACPI tables a TD booted with are those QEMU makes for its configuration: code in them runs
 * in the guest's kernel. Registers of the lite variant are computed with the digests in the log, so they
 * say nothing about the tables; those of the legacy variant hold the tables already. Called once the OS
 * image is proven, which vouches for configuration and log. Only a policy that requires the check
 * refuses other tables: QEMU and firmware of other makers have tables of their own.
 */
export async function checkAcpiTables(
  { checks, policy }: Appraisal,
  bootLog: readonly TdxEvent[],
  configText: string,
): Promise<void> {
  const config = vmConfigOf(configText);
  if (config.tdxAttestationVariant === "legacy") {
    checks.pass("acpi-tables", "The expected registers hold the ACPI tables");
    return;
  }
  try {
    const release = `QEMU ${qemuReleaseOf(config).join(".")}`;
    const expected = await acpiDigestsFor(acpiMachineOf(config));
    const actual = acpiDigestsOf(bootLog);
    const same = (["loader", "rsdp", "tables"] as const)
      .every((name) => equalBytes(actual[name], expected[name]));
    if (same) {
      checks.pass("acpi-tables", `The ACPI tables are those ${release} makes for this VM`);
      return;
    }
    const detail = `The ACPI tables are not those ${release} makes for this VM`;
    if (!policy.required.includes("acpi-tables")) checks.notChecked("acpi-tables", detail);
    else {
      checks.attempt(() => {
        throw refusal("acpi-tables-mismatch", detail);
      });
    }
  } catch (error) {
    if (!(error instanceof AppError) || error.code !== "measurement/unsupported") throw error;
    checks.notChecked("acpi-tables", error.message);
  }
}
