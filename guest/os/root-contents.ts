/**
 * What of the installed packages stays in a guest. Everything here names what is kept, so that a package
 * update can neither start a service nor add a program nobody asked for. Shared libraries are not listed:
 * those that a kept program needs are found by reading it (elf.ts).
 */

/** Packages whose programs are all kept. */
export const KEPT_PROGRAM_PACKAGES: ReadonlySet<string> = new Set([
  "bash",
  "busybox-static",
  "coreutils",
  "crun",
  "cryptsetup-bin",
  "dash",
  "diffutils",
  "dmsetup",
  "docker-cli",
  "docker-compose",
  "docker.io",
  "findutils",
  "grep",
  "gzip",
  "hostname",
  "iptables",
  "kmod",
  "mawk",
  "nftables",
  "runc",
  "sed",
  "strace",
  "tar",
  "wireguard-tools",
]);

/** Single programs of /usr/bin and /usr/sbin; the rest of their packages is left out. */
export const KEPT_PROGRAMS: ReadonlySet<string> = new Set([
  // containerd
  "containerd",
  "containerd-shim-runc-v2",
  // e2fsprogs
  "chattr",
  "dumpe2fs",
  "e2fsck",
  "fsck.ext4",
  "lsattr",
  "mke2fs",
  "mkfs.ext4",
  "resize2fs",
  "tune2fs",
  // libc-bin
  "getconf",
  "getent",
  // systemd
  "journalctl",
  "systemctl",
  "systemd-notify",
  "systemd-run",
  // util-linux, mount
  "blkdiscard",
  "blkid",
  "blockdev",
  "dmesg",
  "fallocate",
  "findmnt",
  "flock",
  "fstrim",
  "getopt",
  "ionice",
  "logger",
  "losetup",
  "lsblk",
  "mkswap",
  "mount",
  "mountpoint",
  "nsenter",
  "prlimit",
  "setpriv",
  "setsid",
  "swapoff",
  "swapon",
  "taskset",
  "umount",
  "unshare",
  "uuidgen",
  "wipefs",
]);

/** Folders and files outside the program folders; a name keeps all below it. */
export const KEPT_PATHS: readonly string[] = [
  // the merged-/usr links and empty mount points
  "bin",
  "lib",
  "lib64",
  "sbin",
  "usr/lib64",
  "usr/libexec/docker",
  "usr/lib/x86_64-linux-gnu/xtables",
  "usr/lib/os-release",
  // licences of what is shipped
  "usr/share/doc",

  "etc/alternatives",
  "etc/debian_version",
  "etc/ethertypes",
  "etc/gai.conf",
  "etc/group",
  "etc/host.conf",
  "etc/mke2fs.conf",
  "etc/os-release",
  "etc/passwd",
  "etc/protocols",
  "etc/rpc",
  "etc/services",
  "etc/shells",
  "etc/ssl/certs/ca-certificates.crt",
  "etc/ssl/openssl.cnf",

  "usr/lib/systemd/systemd",
  "usr/lib/systemd/systemd-cgroups-agent",
  "usr/lib/systemd/systemd-executor",
  "usr/lib/systemd/systemd-journald",
  "usr/lib/systemd/systemd-shutdown",
  // enough units to reach multi-user.target and to shut down
  ...[
    "basic.target",
    "final.target",
    "local-fs-pre.target",
    "local-fs.target",
    "multi-user.target",
    "network-online.target",
    "network-pre.target",
    "network.target",
    "nss-lookup.target",
    "paths.target",
    "poweroff.target",
    "reboot.target",
    "shutdown.target",
    "slices.target",
    "sockets.target",
    "swap.target",
    "sysinit.target",
    "systemd-journald-dev-log.socket",
    "systemd-journald.service",
    "systemd-journald.socket",
    "systemd-poweroff.service",
    "systemd-reboot.service",
    "time-set.target",
    "time-sync.target",
    "timers.target",
    "umount.target",
  ].map((unit) => `usr/lib/systemd/system/${unit}`),
];

/** Left out although a list above keeps the folder. */
export const DROPPED_PATHS: readonly RegExp[] = [
  /^usr\/share\/doc\/[^/]+\/(?!copyright$)./,
];

/** Libraries loaded by name at run time, which no program's dynamic section mentions. */
export const LOADED_LIBRARIES: readonly string[] = [
  "libgcc_s.so.1", // glibc, for thread cancellation
  "libkmod.so.2", // systemd, for modules it needs itself
  "libseccomp.so.2", // systemd, for SystemCallFilter=
  "libsystemd.so.0", // dockerd, for its journald log driver
  "libzstd.so.1", // journald, for compressed entries
];

/** What every guest must hold; the build stops without one of them. */
export const REQUIRED_PATHS: readonly string[] = [
  "etc/ssl/certs/ca-certificates.crt",
  "usr/bin/bash",
  "usr/bin/containerd",
  "usr/bin/containerd-shim-runc-v2",
  "usr/bin/crun",
  "usr/bin/deno",
  "usr/bin/docker",
  "usr/bin/dstack-guest",
  "usr/bin/dstack-util",
  "usr/bin/wg",
  "usr/lib/dstack/dstack-guest.js",
  "usr/lib/systemd/systemd",
  "usr/libexec/docker/cli-plugins/docker-compose",
  "usr/sbin/cryptsetup",
  "usr/sbin/dockerd",
  "usr/sbin/ip",
  "usr/sbin/iptables",
  "usr/sbin/mkfs.ext4",
  "usr/sbin/modprobe",
  "usr/sbin/runc",
];

/** What no guest may hold: ways to log in, to install, to compile or to start another kernel. */
export const FORBIDDEN_PATHS: readonly RegExp[] = [
  /^usr\/s?bin\/(?:agetty|getty|login|su|sudo|sulogin|passwd|useradd|sshd|dropbear)$/,
  /^usr\/s?bin\/(?:apt|apt-get|dpkg|dpkg-deb|pip3?|npm|perl|python3?|gcc|cc|as|ld|make|kexec)$/,
  /^usr\/lib\/systemd\/systemd-(?:logind|hibernate-resume|sleep|sulogin-shell)$/,
  /^usr\/lib\/systemd\/system-generators\/./,
  /^(?:etc|usr\/lib)\/systemd\/system\/(?:.*getty.*|debug-shell\.service|rescue\..*|emergency\..*|kexec\..*)$/,
  /^etc\/ssh\//,
  /^var\/lib\/(?:dpkg|apt)\//,
];

/** What a production guest may not hold on top: tools to look into a running app. */
export const FORBIDDEN_IN_PROD: readonly RegExp[] = [
  /^usr\/s?bin\/(?:strace|ltrace|gdb|gdbserver|tcpdump|vim?|nano)$/,
];
