import { AppError } from "#core/errors/app-error.ts";

/** Loaded before the root file system is there, in this order; dependencies come first. */
export const INITRAMFS_MODULES: readonly string[] = [
  "virtio_blk",
  "erofs",
  "dm-verity",
  "overlay",
  "virtio_net",
];

/** Single modules of the root file system. */
const KEPT_MODULES: readonly string[] = [
  ...INITRAMFS_MODULES,
  "aesni-intel",
  "autofs4",
  "configfs",
  "dm-crypt",
  "dm-integrity",
  "dm-snapshot",
  "dm-thin-pool",
  "dummy",
  "ifb",
  "ipvlan",
  "isofs",
  "loop",
  "macvlan",
  "nls_ascii",
  "nls_cp437",
  "nls_iso8859-1",
  "nls_utf8",
  "quota_v2",
  "sev-guest",
  "squashfs",
  "tdx-guest",
  "tsm_report",
  "tun",
  "veth",
  "vfat",
  "virtio-rng",
  "vmw_vsock_virtio_transport",
  "vxlan",
  "wireguard",
  "zram",
];

/** Whole folders below `kernel/`: what container networks and `pre_launch_script`s configure. */
const KEPT_FOLDERS: readonly string[] = [
  "net/8021q/",
  "net/bridge/",
  "net/ipv4/netfilter/",
  "net/ipv6/netfilter/",
  "net/netfilter/",
  "net/sched/",
];

/** Paths of modules, relative to the kernel's folder, by module name with `-` read as `_`. */
export class ModuleIndex {
  readonly #dependencies = new Map<string, readonly string[]>();
  readonly #byName = new Map<string, string>();

  /** `modulesDep`: the text of a `modules.dep` file (depmod(8)). */
  constructor(modulesDep: string) {
    for (const line of modulesDep.split("\n")) {
      const colon = line.indexOf(":");
      if (colon === -1) continue;
      const path = line.slice(0, colon);
      const needs = line.slice(colon + 1).trim();
      this.#dependencies.set(path, needs === "" ? [] : needs.split(" "));
      this.#byName.set(moduleName(path), path);
    }
  }

  /** The modules and all they need, each after what it needs. */
  closure(names: readonly string[]): string[] {
    const ordered: string[] = [];
    const add = (path: string) => {
      if (ordered.includes(path)) return;
      for (const need of [...(this.#dependencies.get(path) ?? [])].reverse()) add(need);
      ordered.push(path);
    };
    for (const name of names) {
      const path = this.#byName.get(moduleName(name));
      if (path === undefined) {
        throw new AppError("os-build/image-invalid", `The kernel has no module ${name}`);
      }
      add(path);
    }
    return ordered;
  }

  /** Everything a guest keeps. */
  kept(): string[] {
    const inFolders = [...this.#byName].filter(([, path]) =>
      KEPT_FOLDERS.some((folder) => path.startsWith(`kernel/${folder}`))
    ).map(([name]) => name);
    return this.closure([...KEPT_MODULES, ...inFolders]).sort();
  }
}

function moduleName(pathOrName: string): string {
  const file = pathOrName.slice(pathOrName.lastIndexOf("/") + 1);
  return file.replace(/\.ko(?:\.xz)?$/, "").replaceAll("-", "_");
}
