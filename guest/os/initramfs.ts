import type { CpioEntry } from "./cpio.ts";
import type { TarEntry } from "./tar.ts";

/** Programs of the initramfs; their libraries come along. */
export const INITRAMFS_PROGRAMS: readonly string[] = ["usr/bin/busybox", "usr/sbin/dmsetup"];

const APPLETS = [
  "cat",
  "insmod",
  "ln",
  "mkdir",
  "mount",
  "poweroff",
  "sh",
  "sleep",
  "switch_root",
  "usleep",
];

const FOLDERS = ["bin", "dev", "modules", "proc", "root", "sys"];

/**
 * The members of the initramfs. `programs` are `INITRAMFS_PROGRAMS` and their libraries; `modules` are
 * kernel modules in the order they are to be loaded.
 */
export function initramfsEntries(
  init: Uint8Array,
  programs: readonly TarEntry[],
  modules: readonly { readonly name: string; readonly content: Uint8Array }[],
): CpioEntry[] {
  const text = (value: string) => new TextEncoder().encode(value);
  const entries = new Map<string, CpioEntry>();
  const add = (entry: CpioEntry) => entries.set(entry.path, entry);
  const folder = (path: string) =>
    add({ path, type: "directory", mode: 0o755, content: new Uint8Array(0) });
  const link = (path: string, target: string) =>
    add({ path, type: "symlink", mode: 0o777, content: text(target) });

  FOLDERS.forEach(folder);
  add({ path: "init", type: "file", mode: 0o755, content: init });
  for (const { path, type, content, target } of programs) {
    const inBin = /^usr\/s?bin\/([^/]+)$/.exec(path)?.[1];
    const at = inBin === undefined ? path : `bin/${inBin}`;
    for (let i = at.indexOf("/"); i !== -1; i = at.indexOf("/", i + 1)) folder(at.slice(0, i));
    if (type === "symlink") link(at, target);
    else add({ path: at, type: "file", mode: 0o755, content });
  }
  link("lib", "usr/lib");
  folder("lib64");
  link("lib64/ld-linux-x86-64.so.2", "../usr/lib/x86_64-linux-gnu/ld-linux-x86-64.so.2");
  for (const applet of APPLETS) link(`bin/${applet}`, "busybox");
  for (const { name, content } of modules) {
    add({ path: `modules/${name}`, type: "file", mode: 0o644, content });
  }
  add({
    path: "modules/order",
    type: "file",
    mode: 0o644,
    content: text(modules.map(({ name }) => `${name}\n`).join("")),
  });
  return [...entries.values()];
}
