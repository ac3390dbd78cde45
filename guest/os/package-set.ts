/** A group of Debian packages that is resolved, locked and fetched together. */
export interface PackageSet {
  readonly name: string;
  /** Packages asked for by name; their dependencies follow, recommendations do not. */
  readonly roots: readonly string[];
  /** apt name patterns (apt_preferences(5)) taken from trixie-backports; all else is trixie. */
  readonly backports: readonly string[];
  /** True for a root file system: every `Essential: yes` package joins the roots. */
  readonly essential: boolean;
}

/** QEMU for machines whose own is older than 10, run out of its own tree. */
export const HOST_TOOLS: PackageSet = {
  name: "host-tools",
  roots: ["qemu-system-x86", "qemu-utils"],
  backports: ["src:qemu", "src:seabios"],
  essential: false,
};

/**
 * What packs an image. Locked like the image itself: the bytes of a file system depend on the
 * version of the tool that wrote it, so the host's own are never used.
 */
export const BUILD_TOOLS: PackageSet = {
  name: "build-tools",
  roots: ["erofs-utils", "squashfs-tools", "cryptsetup-bin", "gzip", "xz-utils", "kmod"],
  backports: [],
  essential: false,
};

export const PACKAGE_SETS: readonly PackageSet[] = [HOST_TOOLS, BUILD_TOOLS];
