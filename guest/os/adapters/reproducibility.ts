import { createHash } from "node:crypto";
import { createReadStream } from "node:fs";
import { cp, mkdir, readdir, symlink } from "node:fs/promises";
import { AppError } from "#core/errors/app-error.ts";
import type { Flavour } from "../package-set.ts";
import { CLEAN_ENV, command, commandText } from "./command.ts";
import { withScratch } from "./scratch.ts";
import type { Workspace } from "./workspace.ts";

const SOURCES = ["adapters", "core", "guest", "package.json", "package-lock.json"];

/**
 * Builds an image twice from copies of the source tree at two paths, with empty caches but for the fetched
 * packages, the second time on one processor; returns every file with its SHA-256 or throws the first
 * that differs.
 */
export async function checkReproducible(
  workspace: Workspace,
  flavour: Flavour,
): Promise<Map<string, string>> {
  return await withScratch(workspace.cache, "reproducible", async (base) => {
    const first = await build(workspace, flavour, `${base}/one`, []);
    const second = await build(workspace, flavour, `${base}/another/path`, ["taskset", "-c", "0"]);
    const [a, b] = [await digests(first), await digests(second)];
    for (const name of new Set([...a.keys(), ...b.keys()])) {
      if (a.get(name) === b.get(name)) continue;
      throw new AppError("os-build/image-invalid", `${name} differs between two builds`);
    }
    return a;
  });
}

async function build(
  workspace: Workspace,
  flavour: Flavour,
  root: string,
  prefix: readonly string[],
): Promise<string> {
  workspace.say(`building ${flavour} in ${root}`);
  await mkdir(`${root}/cache`, { recursive: true });
  const listed = await commandText([
    "git",
    "-c",
    "safe.directory=*",
    "-C",
    workspace.root,
    "ls-files",
    "-z",
    "--cached",
    "--others",
    "--exclude-standard",
    ...SOURCES,
  ]);
  for (const name of listed.split("\0").filter((name) => name !== "")) {
    await cp(`${workspace.root}/${name}`, `${root}/${name}`);
  }
  await symlink(`${workspace.root}/node_modules`, `${root}/node_modules`);
  await symlink(`${workspace.cache}/debs`, `${root}/cache/debs`);
  const argv = [process.execPath, `${root}/guest/os/main.ts`, "image", "--flavour", flavour];
  await command([...prefix, ...argv, "--out", `${root}/images`], {
    env: { ...CLEAN_ENV, DSTACK_CACHE: `${root}/cache` },
    onStderr: (text) => workspace.say(text.trimEnd()),
  });
  const [name] = (await readdir(`${root}/images`)).filter((found) => !found.endsWith(".json"));
  return `${root}/images/${name}`;
}

async function digests(directory: string): Promise<Map<string, string>> {
  const found = new Map<string, string>();
  for (const name of (await readdir(directory)).sort()) {
    const hash = createHash("sha256");
    for await (const chunk of createReadStream(`${directory}/${name}`)) {
      hash.update(chunk as Uint8Array);
    }
    found.set(name, hash.digest("hex"));
  }
  return found;
}
