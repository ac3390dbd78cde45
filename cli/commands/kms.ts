import type { Command } from "commander";
import type { CliPorts } from "../context.ts";
import { addKmsContract } from "./contract.ts";
import { addKmsEpochs } from "./kms-epochs.ts";
import { addKmsLog } from "./kms-log.ts";

/** Commands about a KMS. */
export function addKms(program: Command, ports: CliPorts): void {
  const kms = program.command("kms")
    .description("Operate a KMS, and check what it did");
  addKmsContract(kms, ports);
  addKmsEpochs(kms, ports);
  addKmsLog(kms, ports);
}
