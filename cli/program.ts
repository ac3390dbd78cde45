import { Command } from "commander";
import { addCollateral } from "./commands/collateral.ts";
import { addCompletion } from "./commands/completion.ts";
import { addCvmCommands } from "./commands/cvm.ts";
import { addDeploy } from "./commands/deploy.ts";
import { addImage } from "./commands/image.ts";
import { addMeasure } from "./commands/measure.ts";
import { addAppContract } from "./commands/contract.ts";
import { addKms } from "./commands/kms.ts";
import { addVerify } from "./commands/verify.ts";
import type { CliPorts } from "./context.ts";

/** The `dstack` command. */
export function createProgram(version: string, ports: CliPorts): Command {
  const program = new Command("dstack")
    .description("Run docker-compose files in confidential VMs, and verify them")
    .version(version)
    .option("--host <address>", "where dstackd listens, URL or unix:PATH (DSTACK_HOST)")
    .option("--token-file <file>", "file with dstackd's token (DSTACK_TOKEN_FILE, DSTACK_TOKEN)")
    .option("-j, --json", "data as JSON on stdout, nothing else there")
    .showHelpAfterError("(--help shows what there is)")
    .configureOutput({
      writeOut: (text) => ports.write(text),
      writeErr: (text) => ports.say(text.trimEnd()),
    })
    .exitOverride();
  addDeploy(program, ports);
  addCvmCommands(program, ports);
  addImage(program, ports);
  addMeasure(program, ports);
  addVerify(program, ports);
  addCollateral(program, ports);
  addAppContract(program, ports);
  addKms(program, ports);
  addCompletion(program, ports);
  return program;
}
