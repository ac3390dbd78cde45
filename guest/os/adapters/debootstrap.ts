import { mkdir, symlink, writeFile } from "node:fs/promises";
import type { PackageLock } from "../lock.ts";
import { CLEAN_ENV, command, commandText } from "./command.ts";
import type { Workspace } from "./workspace.ts";

const isRoot = process.getuid?.() === 0;

/** A build that is killed takes its processes and mounts along. */
const OWN_NAMESPACES = isRoot
  ? ["setpriv", "--pdeathsig=KILL", "unshare", "--mount", "--pid", "--fork", "--kill-child"]
  : [];

export interface DebootstrapOptions {
  /** An existing folder for scratch files, absolute. */
  readonly work: string;
  /** Where the root goes, and in which of mmdebstrap's formats. */
  readonly target: string;
  readonly format: "tar" | "null";
  /** SOURCE_DATE_EPOCH, seconds. */
  readonly epoch: number;
  /** Further mmdebstrap arguments. */
  readonly extra: readonly string[];
}

/**
 * Runs mmdebstrap over a repository that offers the locked packages and no other, so that the root it
 * makes depends on the lock alone.
 */
export async function debootstrap(
  workspace: Workspace,
  lock: PackageLock,
  { work, target, format, epoch, extra }: DebootstrapOptions,
): Promise<void> {
  const repository = `${work}/repository`;
  await mkdir(repository);
  const stanzas: string[] = [];
  for (const p of lock.packages) {
    const name = `${p.name}_${p.version.replaceAll(":", "%3a")}_${p.architecture}.deb`;
    await symlink(workspace.store.path(p), `${repository}/${name}`);
    const control = await commandText(["dpkg-deb", "-f", workspace.store.path(p)]);
    stanzas.push(
      `${control.trimEnd()}\nFilename: ./${name}\nSize: ${p.size}\nSHA256: ${p.sha256}\n`,
    );
  }
  await writeFile(`${repository}/Packages`, stanzas.join("\n"));
  await command([
    ...OWN_NAMESPACES,
    "mmdebstrap",
    "--quiet",
    "--mode=auto",
    "--variant=custom",
    `--format=${format}`,
    `--include=${lock.packages.map((p) => p.name).join(",")}`,
    '--aptopt=APT::Install-Recommends "false"',
    '--aptopt=Acquire::Languages "none"',
    "--dpkgopt=force-unsafe-io",
    ...extra,
    "trixie",
    target,
    `deb [trusted=yes] copy://${repository} ./`,
  ], {
    env: {
      ...CLEAN_ENV,
      SOURCE_DATE_EPOCH: String(epoch),
      HOME: "/root",
      // Root's chroot lies below `work`; without root it must lie where other user ids may go.
      ...(isRoot ? { TMPDIR: work } : {}),
    },
  });
}
