/** A group of Debian packages that is resolved, locked and fetched together. */
export interface PackageSet {
  readonly name: string;
  /** Packages asked for by name; their dependencies follow, recommendations do not. */
  readonly roots: readonly string[];
  /** apt name patterns (apt_preferences(5)) taken from trixie-backports; all else is trixie. */
  readonly backports: readonly string[];
  /** True for a root file system: every `Essential: yes` package joins the roots. */
  readonly essential: boolean;
  /** When given, only packages of matching names are kept: the others are not unpacked anyway. */
  readonly keep?: RegExp;
}

/** Flavours of the guest image; they differ in the measured command line and in what is installed. */
export type Flavour = "dev" | "prod";

/** QEMU for machines whose own is older than 10, run out of its own tree. */
export const HOST_TOOLS: PackageSet = {
  name: "host-tools",
  roots: ["qemu-system-x86", "qemu-utils"],
  backports: ["src:qemu", "src:seabios"],
  essential: false,
};

/** Debian stable's QEMU beside the one above: tests compare ACPI tables with both. */
export const OLDER_QEMU: PackageSet = {
  name: "older-qemu",
  roots: ["qemu-system-x86"],
  backports: [],
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

/** Compilers for the TDX firmware, and nothing of the machine it is built on. */
export const FIRMWARE_TOOLS: PackageSet = {
  name: "firmware-tools",
  roots: [
    "acpica-tools",
    "bash",
    "g++",
    "gcc",
    "make",
    "nasm",
    "patch",
    "python3",
    "uuid-dev",
    "xz-utils",
  ],
  backports: [],
  essential: true,
};

/** The guest kernel: unpacked, never installed, so its initramfs generator stays out. */
export const KERNEL: PackageSet = {
  name: "kernel",
  roots: ["linux-image-cloud-amd64"],
  backports: ["src:linux", "src:linux-signed-amd64", "linux-*"],
  essential: false,
  keep: /^linux-(?:base|binary|modules)-[0-9]/,
};

const GUEST_ROOTS = [
  "bash",
  "busybox-static",
  "ca-certificates",
  "containerd",
  "coreutils",
  "crun",
  "cryptsetup-bin",
  "dmsetup",
  "docker-cli",
  "docker-compose",
  "docker.io",
  "e2fsprogs",
  "iptables",
  "kmod",
  "mount",
  "nftables",
  "runc",
  "systemd",
  "util-linux",
  "wireguard-tools",
];

/** The root file system of a flavour. */
export const GUESTS: Readonly<Record<Flavour, PackageSet>> = {
  dev: { name: "dev", roots: [...GUEST_ROOTS, "strace"], backports: [], essential: true },
  prod: { name: "prod", roots: GUEST_ROOTS, backports: [], essential: true },
};

export const PACKAGE_SETS: readonly PackageSet[] = [
  HOST_TOOLS,
  OLDER_QEMU,
  BUILD_TOOLS,
  FIRMWARE_TOOLS,
  KERNEL,
  GUESTS.dev,
  GUESTS.prod,
];
