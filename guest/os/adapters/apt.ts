import { mkdir, readdir, readFile, stat, writeFile } from "node:fs/promises";
import { AppError } from "#core/errors/app-error.ts";
import type { DebianArchive, LockedFile, LockedPackage, PackageLock, SourceLock } from "../lock.ts";
import type { PackageSet } from "../package-set.ts";
import { CLEAN_ENV, command, commandText } from "./command.ts";
import type { Mirror } from "./mirror.ts";

const KEYRING = "/usr/share/keyrings/debian-archive-keyring.gpg";
const SUITES: readonly (readonly [DebianArchive, string])[] = [
  ["debian", "trixie"],
  ["debian", "trixie-updates"],
  ["debian-security", "trixie-security"],
  ["debian", "trixie-backports"],
];

/**
 * A private apt under `directory`: own sources, lists, preferences and an empty package database,
 * so that it resolves from nothing and the machine's own apt is neither read nor touched.
 */
export class PrivateApt {
  readonly #directory: string;
  readonly #mirror: Mirror;

  constructor(directory: string, mirror: Mirror) {
    this.#directory = directory;
    this.#mirror = mirror;
  }

  /** Fetches today's package indexes; they are authenticated by the Debian archive keyring. */
  async update(): Promise<void> {
    if (!(await exists(KEYRING))) {
      throw new AppError(
        "os-build/tool-missing",
        `Cannot authenticate Debian packages: ${KEYRING} is missing, install debian-archive-keyring`,
      );
    }
    for (
      const sub of [
        "etc/apt/apt.conf.d",
        "etc/apt/preferences.d",
        "etc/apt/trusted.gpg.d",
        "var/lib/apt/lists/partial",
        "var/cache/apt/archives/partial",
        "var/lib/dpkg",
      ]
    ) await mkdir(`${this.#directory}/${sub}`, { recursive: true });
    await writeFile(`${this.#directory}/var/lib/dpkg/status`, "");
    await writeFile(
      `${this.#directory}/etc/apt/sources.list`,
      SUITES.flatMap(([archive, suite]) =>
        ["deb", "deb-src"].map((type) =>
          `${type} [signed-by=${KEYRING}] ${this.#mirror[archive]} ${suite} main\n`
        )
      ).join(""),
    );
    await this.#configure([]);
    await this.#run(["apt-get", "update", "-q"]);
  }

  /** The packages of a set and everything they depend on, at today's versions. */
  async resolve(set: PackageSet, now: Date): Promise<PackageLock> {
    await this.#configure(set.backports);
    const wanted = set.essential ? ["?essential", ...set.roots] : set.roots;
    const printed = await this.#run([
      "apt-get",
      "install",
      "--print-uris",
      "-qq",
      "-y",
      ...wanted,
    ]);
    const uris = [...printed.matchAll(/^'([^']+)' /gm)].map((match) => match[1]!);
    if (uris.length === 0) {
      throw new AppError(
        "os-build/package-unavailable",
        `apt found nothing to install for ${set.name}`,
      );
    }
    const byPath = await this.#stanzas();
    const packages = uris.map((uri) => this.#locked(decodeURIComponent(uri), byPath))
      .filter((p) => set.keep === undefined || set.keep.test(p.name));
    packages.sort((a, b) => (a.name < b.name ? -1 : 1));
    return { schema: 1, set: set.name, resolvedAt: stamp(now), roots: set.roots, packages };
  }

  /** The newest version of a source package that starts with `prefix`. */
  async resolveSource(source: string, prefix: string, now: Date): Promise<SourceLock> {
    const stanzas = (await this.#run(["apt-cache", "showsrc", source])).split("\n\n");
    let found: SourceLock | undefined;
    for (const stanza of stanzas) {
      const field = (name: string) => new RegExp(`^${name}: (.*)$`, "m").exec(stanza)?.[1];
      const version = field("Version");
      const folder = field("Directory");
      if (version?.startsWith(prefix) !== true || folder === undefined) continue;
      if (found !== undefined && !(await isNewer(version, found.version))) continue;
      const sums = /^Checksums-Sha256:[^\n]*\n((?: .*(?:\n|$))+)/m.exec(stanza)?.[1] ?? "";
      const files = [...sums.matchAll(/^ ([0-9a-f]{64}) (\d+) (\S+\.tar\.[gx]z)$/gm)].map((
        [, sha256, size, name],
      ): LockedFile => ({
        archive: folder.startsWith("pool/updates/") ? "debian-security" : "debian",
        filename: `${folder}/${name}`,
        size: Number(size),
        sha256: sha256!,
      }));
      found = { schema: 1, source, version, resolvedAt: stamp(now), files };
    }
    if (found === undefined) {
      throw new AppError(
        "os-build/package-unavailable",
        `The mirror has no source of ${source} ${prefix}`,
      );
    }
    return found;
  }

  #locked(uri: string, byPath: ReadonlyMap<string, Stanza>): LockedPackage {
    for (const archive of ["debian-security", "debian"] as const) {
      const base = `${this.#mirror[archive]}/`;
      if (!uri.startsWith(base)) continue;
      const filename = uri.slice(base.length);
      const stanza = byPath.get(filename);
      if (stanza === undefined) break;
      const { name, version, architecture, size, sha256 } = stanza;
      return { name, version, architecture, archive, filename, size, sha256 };
    }
    throw new AppError(
      "os-build/package-unavailable",
      `apt names ${uri}, which no index describes`,
    );
  }

  /** Every package of every index by its path in the pool. */
  async #stanzas(): Promise<Map<string, Stanza>> {
    const lists = `${this.#directory}/var/lib/apt/lists`;
    const found = new Map<string, Stanza>();
    for (const file of (await readdir(lists)).filter((name) => name.endsWith("_Packages"))) {
      for (const block of (await readFile(`${lists}/${file}`, "utf8")).split("\n\n")) {
        const field = (name: string) => new RegExp(`^${name}: (.*)$`, "m").exec(block)?.[1];
        const filename = field("Filename");
        const architecture = field("Architecture");
        if (filename === undefined || (architecture !== "amd64" && architecture !== "all")) {
          continue;
        }
        found.set(filename, {
          name: field("Package") ?? "",
          version: field("Version") ?? "",
          architecture,
          size: Number(field("Size")),
          sha256: field("SHA256") ?? "",
        });
      }
    }
    return found;
  }

  async #configure(backports: readonly string[]): Promise<void> {
    await writeFile(
      `${this.#directory}/etc/apt/preferences`,
      backports.map((name) =>
        `Package: ${name}\nPin: release n=trixie-backports\nPin-Priority: 990\n\n`
      ).join(""),
    );
    await writeFile(
      `${this.#directory}/apt.conf`,
      [
        `Dir "${this.#directory}";`,
        `Dir::State::status "${this.#directory}/var/lib/dpkg/status";`,
        `APT::Architecture "amd64";`,
        `APT::Architectures { "amd64"; };`,
        `APT::Sandbox::User "root";`,
        `APT::Install-Recommends "false";`,
        `Acquire::Languages "none";`,
        `Acquire::GzipIndexes "false";`,
        `Acquire::Retries "3";`,
        ...(await this.#hostTransport()),
        "",
      ].join("\n"),
    );
  }

  /** Proxy settings of the machine's own apt: without them a firewalled host reaches no mirror. */
  async #hostTransport(): Promise<string[]> {
    const dump = await commandText(["apt-config", "dump"]);
    return dump.split("\n").filter((line) =>
      /^Acquire::https?::[A-Za-z:.-]*(Proxy|CAInfo)\b/i.test(line)
    );
  }

  #run(argv: readonly string[]): Promise<string> {
    return commandText(argv, { env: { ...CLEAN_ENV, APT_CONFIG: `${this.#directory}/apt.conf` } });
  }
}

type Stanza = Omit<LockedPackage, "archive" | "filename">;

async function isNewer(version: string, than: string): Promise<boolean> {
  return await command(["dpkg", "--compare-versions", version, "gt", than])
    .then(() => true, () => false);
}

/** `YYYYMMDDTHHMMSSZ`, as snapshot.debian.org names moments. */
function stamp(now: Date): string {
  return now.toISOString().replace(/\.\d+Z$/, "Z").replaceAll(/[-:]/g, "");
}

async function exists(path: string): Promise<boolean> {
  return await stat(path).then(() => true, () => false);
}
