import { parseArgs } from "node:util";
import { errorChain } from "#core/errors/app-error.ts";
import { provideHostTools } from "./adapters/host-tools.ts";
import { lockPath, openWorkspace, resolveToday, writeText } from "./adapters/workspace.ts";
import { encodePackageLock } from "./lock.ts";
import { PACKAGE_SETS } from "./package-set.ts";

const USAGE = `usage: guest/os/main.ts <command> [options]

  host-tools             provide QEMU >= 10 under .cache/host-tools/bin
  lock [SET]...          resolve today's package versions into guest/os/lock (all sets by default)

example: node guest/os/main.ts lock dev prod
`;

const say = (line: string) => process.stderr.write(`${line}\n`);

async function main(argv: string[]): Promise<number> {
  const [name, ...rest] = argv;
  switch (name) {
    case "host-tools":
      return await hostTools(rest);
    case "lock":
      return await lock(rest);
    case "--help":
    case "-h":
      process.stdout.write(USAGE);
      return 0;
    default:
      process.stderr.write(USAGE);
      return 2;
  }
}

async function hostTools(argv: string[]): Promise<number> {
  const { values } = parseArgs({ args: argv, options: { qemu: { type: "string" } } });
  const named = values.qemu ?? process.env["DSTACK_QEMU"];
  const found = await provideHostTools(await openWorkspace(say), named === "" ? undefined : named);
  process.stdout.write(`${found.qemu}\n`);
  say(found.version);
  return 0;
}

async function lock(argv: string[]): Promise<number> {
  const { positionals } = parseArgs({ args: argv, options: {}, allowPositionals: true });
  const workspace = await openWorkspace(say);
  const unknown = positionals.find((name) => !PACKAGE_SETS.some((set) => set.name === name));
  if (unknown !== undefined) {
    say(
      `lock: no package set '${unknown}'; there are ${PACKAGE_SETS.map((s) => s.name).join(", ")}`,
    );
    return 2;
  }
  for (const set of PACKAGE_SETS) {
    if (positionals.length > 0 && !positionals.includes(set.name)) continue;
    const resolved = await resolveToday(workspace, set);
    await writeText(lockPath(workspace, set), encodePackageLock(resolved));
    say(`${set.name}: ${resolved.packages.length} packages locked`);
  }
  return 0;
}

try {
  process.exitCode = await main(process.argv.slice(2));
} catch (error) {
  say(`guest/os: ${errorChain(error)}`);
  process.exitCode = 1;
}
