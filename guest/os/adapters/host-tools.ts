import { mkdir } from "node:fs/promises";
import { AppError } from "#core/errors/app-error.ts";
import { HOST_TOOLS, OLDER_QEMU, type PackageSet } from "../package-set.ts";
import { OLDEST_QEMU, qemuMajorVersion } from "../qemu-version.ts";
import { commandText } from "./command.ts";
import {
  removeOtherTrees,
  type ToolTree,
  unpackToolTree,
  writeScript,
  writeTreeWrapper,
} from "./tool-tree.ts";
import { fetchPackages, type Workspace } from "./workspace.ts";

/**
 * Makes `<cache>/host-tools/bin/qemu-system-x86_64` and `qemu-img`: the machine's own when new enough,
 * else Debian backports' run out of its own tree. `named` is a QEMU the user insists on. Returns the path
 * of the emulator and its version.
 */
export async function provideHostTools(
  workspace: Workspace,
  named: string | undefined,
): Promise<{ qemu: string; version: string }> {
  const directory = `${workspace.cache}/host-tools`;
  const bin = `${directory}/bin`;
  const qemu = `${bin}/qemu-system-x86_64`;
  await mkdir(bin, { recursive: true });

  if (named !== undefined) {
    const version = await qemuVersion(named);
    const major = qemuMajorVersion(version ?? "");
    if (major === undefined || major < OLDEST_QEMU) {
      throw new AppError(
        "host/qemu-too-old",
        `${named} is ${version ?? "not a QEMU"}; QEMU ${OLDEST_QEMU} or newer is needed, ` +
          "older ones corrupt guest memory. Unset DSTACK_QEMU to let scripts/host-tools provide one",
      );
    }
    await writeForwarders(bin, named, "qemu-img");
  } else if (
    (qemuMajorVersion(await qemuVersion("qemu-system-x86_64") ?? "") ?? 0) >= OLDEST_QEMU
  ) {
    await writeForwarders(bin, "qemu-system-x86_64", "qemu-img");
  } else {
    const { tree, modules } = await provideOwnQemu(workspace, HOST_TOOLS);
    await writeTreeWrapper(`${bin}/qemu-img`, tree, "usr/bin/qemu-img", [], modules);
  }
  const version = await qemuVersion(qemu);
  if (version === undefined) {
    throw new AppError("host/qemu-unusable", `${qemu} does not run on this machine`);
  }
  return { qemu, version };
}

/** Makes `<cache>/older-qemu/bin/qemu-system-x86_64`. Returns its path and version. */
export async function provideOlderQemu(
  workspace: Workspace,
): Promise<{ qemu: string; version: string }> {
  await provideOwnQemu(workspace, OLDER_QEMU);
  const qemu = `${workspace.cache}/${OLDER_QEMU.name}/bin/qemu-system-x86_64`;
  return { qemu, version: (await qemuVersion(qemu))! };
}

/** Unpacks a set with a QEMU in it and writes `<cache>/<set>/bin/qemu-system-x86_64`. */
async function provideOwnQemu(
  workspace: Workspace,
  set: PackageSet,
): Promise<{ tree: ToolTree; modules: Readonly<Record<string, string>> }> {
  const directory = `${workspace.cache}/${set.name}`;
  await mkdir(`${directory}/bin`, { recursive: true });
  const { lock } = await fetchPackages(workspace, set);
  const tree = await unpackToolTree(workspace, directory, lock);
  const modules = { QEMU_MODULE_DIR: `${tree.directory}/usr/lib/x86_64-linux-gnu/qemu` };
  const data = ["qemu", "seabios"].map((name) => `${tree.directory}/usr/share/${name}`);
  await writeTreeWrapper(
    `${directory}/bin/qemu-system-x86_64`,
    tree,
    "usr/bin/qemu-system-x86_64",
    [...data, `${tree.directory}/usr/lib/ipxe/qemu`].flatMap((path) => ["-L", path]),
    modules,
  );
  await removeOtherTrees(directory, tree);
  return { tree, modules };
}

async function writeForwarders(bin: string, qemu: string, image: string): Promise<void> {
  await writeScript(`${bin}/qemu-img`, `#!/bin/sh\nexec '${image}' "$@"\n`);
  await writeScript(`${bin}/qemu-system-x86_64`, `#!/bin/sh\nexec '${qemu}' "$@"\n`);
}

/** The first line of `--version`, or undefined when the program cannot be run. */
async function qemuVersion(program: string): Promise<string | undefined> {
  try {
    return (await commandText([program, "--version"])).split("\n")[0];
  } catch (error) {
    if (error instanceof AppError) return undefined;
    throw error;
  }
}
