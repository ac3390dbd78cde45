import { readFile } from "node:fs/promises";

/** Whether something is mounted on `path` (proc(5), mountinfo field 5, octal escapes). */
export async function isMountPoint(path: string): Promise<boolean> {
  const mounts = await readFile("/proc/self/mountinfo", "utf8");
  return mounts.split("\n").some((line) =>
    line.split(" ")[4]?.replace(
      /\\([0-7]{3})/g,
      (_, octal) => String.fromCharCode(parseInt(octal, 8)),
    ) === path
  );
}
