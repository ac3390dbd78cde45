import { readFile } from "node:fs/promises";
import { parseArgs } from "node:util";
import { resolve } from "node:path";
import { AppError, errorChain } from "#core/errors/app-error.ts";
import { gitRevision } from "./adapters/git-revision.ts";
import { bundleGuest } from "./adapters/guest-bundle.ts";
import { buildImage } from "./adapters/image-builder.ts";
import { checkReproducible } from "./adapters/reproducibility.ts";
import { provideHostTools, provideOlderQemu } from "./adapters/host-tools.ts";
import { openWorkspace, withApt, writeFileWhole } from "./adapters/workspace.ts";
import { resolveFirmwareSource } from "./adapters/firmware.ts";
import {
  describeLockChanges,
  encodePackageLock,
  encodeSourceLock,
  parsePackageLock,
} from "./lock.ts";
import { FIRMWARE_TOOLS, type Flavour, PACKAGE_SETS } from "./package-set.ts";

const USAGE = `usage: guest/os/main.ts <command> [options]

  host-tools             provide QEMU >= 10 under .cache/host-tools/bin
      --older            provide Debian stable's under .cache/older-qemu/bin instead, for tests
  bundle --flavour F     bundle the guest's program into dist/guest
  image --flavour F      build an image folder
      [--out DIR]        where (default .cache/images)
      [--guest FILE]     another guest program than the bundled guest/main.ts
      --check-reproducible   build twice, on two paths and with nothing cached but packages, and compare
  lock [SET]...          resolve today's package versions into guest/os/lock (all sets by default)

example: node guest/os/main.ts lock dev prod
`;

const say = (line: string) => process.stderr.write(`${line}\n`);

async function main(argv: string[]): Promise<number> {
  const [name, ...rest] = argv;
  switch (name) {
    case "host-tools":
      return await hostTools(rest);
    case "bundle":
      return await bundle(rest);
    case "image":
      return await image(rest);
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
  const { values } = parseArgs({
    args: argv,
    options: { qemu: { type: "string" }, older: { type: "boolean", default: false } },
  });
  const named = values.qemu ?? process.env["DSTACK_QEMU"];
  const workspace = await openWorkspace(say);
  const found = values.older
    ? await provideOlderQemu(workspace)
    : await provideHostTools(workspace, named === "" ? undefined : named);
  process.stdout.write(`${found.qemu}\n`);
  say(found.version);
  return 0;
}

const FLAVOUR = { flavour: { type: "string", default: "dev" } } as const;

async function bundle(argv: string[]): Promise<number> {
  const { values } = parseArgs({ args: argv, options: FLAVOUR });
  const { root } = await openWorkspace(say);
  const path = await bundleGuest(root, `${root}/dist/guest`, flavourOf(values.flavour));
  process.stdout.write(`${path}\n`);
  return 0;
}

async function image(argv: string[]): Promise<number> {
  const { values } = parseArgs({
    args: argv,
    options: {
      ...FLAVOUR,
      out: { type: "string" },
      guest: { type: "string" },
      "check-reproducible": { type: "boolean", default: false },
    },
  });
  const flavour = flavourOf(values.flavour);
  const workspace = await openWorkspace(say);
  if (values["check-reproducible"]) {
    const files = await checkReproducible(workspace, flavour);
    for (const [file, sha256] of files) process.stdout.write(`${sha256}  ${file}\n`);
    say(`two builds of ${flavour} are equal in all ${files.size} files`);
    return 0;
  }
  const { version } = JSON.parse(await readFile(`${workspace.root}/package.json`, "utf8"));
  const built = await buildImage(workspace, {
    flavour,
    out: resolve(values.out ?? `${workspace.cache}/images`),
    version,
    gitRevision: await gitRevision(workspace),
    deno: `${workspace.root}/node_modules/@deno/linux-x64-glibc/deno`,
    bundle: values.guest === undefined
      ? await bundleGuest(workspace.root, `${workspace.root}/dist/guest`, flavour)
      : resolve(values.guest),
  });
  say(`${built.written ? "built" : "up to date"}: os_image_hash ${built.osImageHash}`);
  process.stdout.write(`${built.directory}\n`);
  return 0;
}

function flavourOf(text: string): Flavour {
  if (text === "dev" || text === "prod") return text;
  throw new AppError("input/malformed", `Flavour is '${text}', expected dev or prod`);
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
  const sets = PACKAGE_SETS.filter((set) =>
    positionals.length === 0 || positionals.includes(set.name)
  );
  const folder = `${workspace.root}/guest/os/lock`;
  await withApt(workspace, async (apt) => {
    for (const set of sets) {
      const resolved = await apt.resolve(set, new Date());
      const path = `${folder}/${set.name}.json`;
      const before = await readFile(path, "utf8").then(parsePackageLock).catch(() => undefined);
      if (before !== undefined) {
        for (const line of describeLockChanges(before, resolved)) say(line);
      }
      await writeFileWhole(path, encodePackageLock(resolved));
      say(`${set.name}: ${resolved.packages.length} packages locked`);
    }
    if (positionals.length > 0 && !positionals.includes(FIRMWARE_TOOLS.name)) return;
    const source = await resolveFirmwareSource(apt);
    await writeFileWhole(`${folder}/firmware-source.json`, encodeSourceLock(source));
    say(`firmware-source: ${source.source} ${source.version} locked`);
  });
  return 0;
}

try {
  process.exitCode = await main(process.argv.slice(2));
} catch (error) {
  say(`guest/os: ${errorChain(error)}`);
  process.exit(1); // steps that ran beside the failed one end with the process
}
