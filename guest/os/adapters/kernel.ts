import { createHash } from "node:crypto";
import { cp, mkdir, readdir, readFile, rename, symlink, writeFile } from "node:fs/promises";
import { dirname } from "node:path";
import { AppError } from "#core/errors/app-error.ts";
import { ModuleIndex } from "../kernel-modules.ts";
import type { PackageLock } from "../lock.ts";
import { command } from "./command.ts";
import { moveInto, withScratch } from "./scratch.ts";
import { type ToolTree, treeArgv } from "./tool-tree.ts";
import type { Workspace } from "./workspace.ts";

export interface GuestKernel {
  readonly release: string;
  /** Absolute path of the bzImage. */
  readonly image: string;
  /** Absolute path of the folder that becomes `/usr/lib/modules/<release>`: plain `.ko` files and indexes. */
  readonly modules: string;
  readonly index: ModuleIndex;
}

const DEPMOD_INPUTS = ["modules.builtin", "modules.builtin.modinfo", "modules.order"];

/**
 * Unpacks the kernel packages and keeps the modules a guest uses, uncompressed: the image compresses
 * them better, and loading one costs no decompression.
 */
export async function prepareKernel(
  workspace: Workspace,
  lock: PackageLock,
  tools: ToolTree,
): Promise<GuestKernel> {
  const recipe = await readFile(new URL("../kernel-modules.ts", import.meta.url));
  const key = createHash("sha256").update(recipe)
    .update(lock.packages.map((p) => p.sha256).join("\n")).digest("hex").slice(0, 16);
  const directory = `${workspace.cache}/kernel/${key}`;
  const done = await readFile(`${directory}/release`, "utf8").catch(() => undefined);
  const release = done ?? await build(workspace, lock, tools, directory);
  const modules = `${directory}/modules`;
  const index = new ModuleIndex(await readFile(`${modules}/modules.dep`, "utf8"));
  return { release, image: `${directory}/bzImage`, modules, index };
}

async function build(
  workspace: Workspace,
  lock: PackageLock,
  tools: ToolTree,
  directory: string,
): Promise<string> {
  workspace.say("preparing the kernel and its modules");
  return await withScratch(workspace.cache, "kernel", async (work) => {
    await mkdir(`${work}/all`);
    for (const p of lock.packages) {
      await command(["dpkg-deb", "-x", workspace.store.path(p), `${work}/all`]);
    }
    const [release, ...others] = await readdir(`${work}/all/usr/lib/modules`);
    if (release === undefined || others.length > 0) {
      throw new AppError(
        "os-build/image-invalid",
        "The kernel packages hold not exactly one kernel",
      );
    }
    const all = `${work}/all/usr/lib/modules/${release}`;
    await symlink("usr/lib", `${work}/all/lib`);
    const depmod = (base: string) =>
      command(treeArgv(tools, "usr/sbin/depmod", ["-b", base, release]));
    await depmod(`${work}/all`);
    const kept = new ModuleIndex(await readFile(`${all}/modules.dep`, "utf8")).kept();

    const modules = `${work}/kept/usr/lib/modules/${release}`;
    await mkdir(modules, { recursive: true });
    await symlink("usr/lib", `${work}/kept/lib`);
    for (const file of DEPMOD_INPUTS) await cp(`${all}/${file}`, `${modules}/${file}`);
    for (const path of kept) {
      await mkdir(dirname(`${modules}/${path}`), { recursive: true });
      await cp(`${all}/${path}`, `${modules}/${path}`);
    }
    const compressed = kept.filter((path) => path.endsWith(".xz")).map((path) =>
      `${modules}/${path}`
    );
    await command(treeArgv(tools, "usr/bin/xz", ["--decompress", ...compressed]));
    await depmod(`${work}/kept`);

    await mkdir(`${work}/done`);
    await rename(modules, `${work}/done/modules`);
    await rename(`${all}/vmlinuz`, `${work}/done/bzImage`);
    await rename(`${all}/config`, `${work}/done/config`);
    await writeFile(`${work}/done/release`, release);
    await moveInto(`${work}/done`, directory);
    return release;
  });
}
