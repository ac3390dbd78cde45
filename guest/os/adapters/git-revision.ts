import { commandText } from "./command.ts";
import type { Workspace } from "./workspace.ts";

/** What ends up in a guest; a change elsewhere does not make an image "modified". */
const INPUTS = ["adapters", "core", "guest", "package-lock.json"];

/** The commit of the work tree, `-modified` when an input differs from it, or "unknown" outside git. */
export async function gitRevision(workspace: Workspace): Promise<string> {
  const git = (args: readonly string[]) =>
    commandText(["git", "-c", "safe.directory=*", "-C", workspace.root, ...args]);
  try {
    const commit = (await git(["rev-parse", "HEAD"])).trim();
    const changes = await git(["status", "--porcelain", "--", ...INPUTS]);
    return changes.trim() === "" ? commit : `${commit}-modified`;
  } catch {
    return "unknown"; // an unpacked release has no repository; the field only informs
  }
}
