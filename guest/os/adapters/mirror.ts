import { readdir, readFile } from "node:fs/promises";
import type { DebianArchive } from "../lock.ts";

/** Base URLs of the two Debian archives, without a trailing slash. */
export type Mirror = Readonly<Record<DebianArchive, string>>;

const DEFAULT_MIRROR: Mirror = {
  "debian": "http://deb.debian.org/debian",
  "debian-security": "http://deb.debian.org/debian-security",
};

/**
 * The mirror to use: `DSTACK_DEBIAN_MIRROR` (a base URL holding both archives), else the one this
 * machine's own apt is configured with when it is a Debian, else deb.debian.org.
 */
export async function findMirror(
  env: Readonly<Record<string, string | undefined>>,
): Promise<Mirror> {
  const named = env["DSTACK_DEBIAN_MIRROR"]?.replace(/\/+$/, "");
  if (named !== undefined && named !== "") {
    return { "debian": `${named}/debian`, "debian-security": `${named}/debian-security` };
  }
  const configured = await aptUris("/etc/apt");
  const find = (archive: DebianArchive) =>
    configured.find((uri) => new RegExp(`^https?://[^/]+(?:/.*)?/${archive}/?$`).test(uri))
      ?.replace(/\/+$/, "");
  return {
    "debian": find("debian") ?? DEFAULT_MIRROR["debian"],
    "debian-security": find("debian-security") ?? DEFAULT_MIRROR["debian-security"],
  };
}

/** Every archive address in sources.list, *.list and deb822 *.sources files. */
async function aptUris(etcApt: string): Promise<string[]> {
  const parts = await readdir(`${etcApt}/sources.list.d`).catch(() => [] as string[]);
  const files = [
    `${etcApt}/sources.list`,
    ...parts.sort().map((p) => `${etcApt}/sources.list.d/${p}`),
  ];
  const uris: string[] = [];
  for (const file of files) {
    const text = await readFile(file, "utf8").catch(() => "");
    for (const line of text.split("\n")) {
      const oneLine = /^\s*deb\s+(?:\[[^\]]*\]\s+)?(\S+)/.exec(line);
      const deb822 = /^URIs:\s*(.+)$/i.exec(line);
      if (oneLine?.[1] !== undefined) uris.push(oneLine[1]);
      else if (deb822?.[1] !== undefined) uris.push(...deb822[1].trim().split(/\s+/));
    }
  }
  return uris;
}
