import { createHash } from "node:crypto";
import { mkdir, rename, stat } from "node:fs/promises";
import type { PackageLock } from "../lock.ts";
import { debootstrap } from "./debootstrap.ts";
import { withScratch } from "./scratch.ts";
import type { Workspace } from "./workspace.ts";

/** Files dpkg never unpacks: nobody reads manuals in a CVM. Licences stay. */
const EXCLUDED = [
  "path-exclude=/usr/share/doc/*",
  "path-include=/usr/share/doc/*/copyright",
  "path-exclude=/usr/share/man/*",
  "path-exclude=/usr/share/info/*",
  "path-exclude=/usr/share/locale/*",
  "path-exclude=/usr/share/lintian/*",
];

/**
 * Installs exactly the packages of a lock into an empty root and returns the path of the resulting tar,
 * which is kept in the cache by what it is made from. `epoch` in seconds.
 */
export async function installRootPackages(
  workspace: Workspace,
  lock: PackageLock,
  epoch: number,
): Promise<string> {
  const key = createHash("sha256")
    .update([...EXCLUDED, String(epoch), ...lock.packages.map((p) => p.sha256)].join("\n"))
    .digest("hex").slice(0, 16);
  const directory = `${workspace.cache}/root-packages`;
  const tar = `${directory}/${lock.set}-${key}.tar`;
  if (await stat(tar).then(() => true, () => false)) return tar;

  workspace.say(`installing ${lock.packages.length} packages into the ${lock.set} root`);
  return await withScratch(workspace.cache, lock.set, async (work) => {
    await debootstrap(workspace, lock, {
      work,
      target: `${work}/root.tar`,
      format: "tar",
      epoch,
      extra: EXCLUDED.map((option) => `--dpkgopt=${option}`),
    });
    await mkdir(directory, { recursive: true });
    await rename(`${work}/root.tar`, tar);
    return tar;
  });
}
