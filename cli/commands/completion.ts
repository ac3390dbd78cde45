import { Argument, type Command } from "commander";
import { completionScript, type Shell, SHELLS } from "../completion.ts";
import type { CliPorts } from "../context.ts";

export function addCompletion(program: Command, ports: CliPorts): void {
  program.command("completion")
    .description("Print a script that completes dstack's commands and options in a shell")
    .addArgument(new Argument("<shell>").choices(SHELLS))
    .addHelpText(
      "after",
      "\nExample:\n  $ dstack completion bash > ~/.local/share/bash-completion/completions/dstack",
    )
    .action((shell: Shell) => ports.write(completionScript(program, shell)));
}
