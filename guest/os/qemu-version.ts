/** The oldest QEMU that runs current kernels under TCG; 7.2 corrupts guest memory (design section 8). */
export const OLDEST_QEMU = 10;

/** The major version in `qemu-system-x86_64 --version`, or undefined when it says something else. */
export function qemuMajorVersion(versionOutput: string): number | undefined {
  const major = /^QEMU emulator version (\d+)\./m.exec(versionOutput)?.[1];
  return major === undefined ? undefined : Number(major);
}
