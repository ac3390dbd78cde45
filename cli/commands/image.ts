import { type Command, Option } from "commander";
import type { CliPorts } from "../context.ts";

const PROGRAM = "guest/os/main.ts";

interface BuildOptions {
  readonly flavour: string;
  readonly out?: string;
  readonly checkReproducible?: boolean;
}

/** Images are made from source, by the checkout's own builder. */
export function addImage(program: Command, ports: CliPorts): void {
  const image = program.command("image").description("Make guest images from a checkout");
  const run = async (argv: readonly string[]) =>
    ports.setExitCode(await ports.runFromCheckout(PROGRAM, argv));

  image.command("build")
    .description("Build a guest image, and print its folder")
    .addOption(
      new Option("--flavour <flavour>", "prod runs on hardware alone, dev on the simulated TEE")
        .choices(["dev", "prod"]).default("prod"),
    )
    .option("--out <dir>", "where its folder goes; .cache/images of the checkout, unless given")
    .option("--check-reproducible", "build twice, on two paths with cold caches, and compare")
    .action(async ({ flavour, out, checkReproducible }: BuildOptions) => {
      await run([
        "image",
        "--flavour",
        flavour,
        ...(out === undefined ? [] : ["--out", out]),
        ...(checkReproducible ? ["--check-reproducible"] : []),
      ]);
    });

  image.command("lock")
    .description("Resolve today's package versions into guest/os/lock, and say what changed")
    .argument("[set...]", "package sets, such as dev or prod; all of them, unless given")
    .action(async (sets: readonly string[]) => await run(["lock", ...sets]));
}
