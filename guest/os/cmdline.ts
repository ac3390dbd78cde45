import { AppError } from "#core/errors/app-error.ts";
import type { Flavour } from "./package-set.ts";

/** spec/os.md 1.4: why each word is there. */
const FIXED = "console=ttyS0 init=/init panic=1 net.ifnames=0 biosdevname=0 mce=off oops=panic " +
  "pci=noearly pci=nommconf random.trust_cpu=y random.trust_bootloader=n tsc=reliable no-kvmclock";

/**
 * What we add. Of Debian's security modules only those a guest uses: its BPF and integrity modules cost
 * seconds of boot under emulation. Lockdown keeps root from changing the running kernel, whose
 * measurement would otherwise say nothing. The kernel's tests of its own ciphers run at its build, and nobody
 * reads its statistics of stalls and of idle memory.
 */
const ADDED =
  "lsm=lockdown,landlock,yama lockdown=integrity cryptomgr.notests psi=0 damon_stat.enabled=0";

/**
 * The TEE driver of a flavour: a production image refuses to run without hardware. A simulated TEE keeps
 * nothing from anybody, and what hardens a kernel makes an emulated one slow.
 */
const BY_FLAVOUR: Readonly<Record<Flavour, string>> = {
  dev: "dstack.tee=sim mitigations=off init_on_alloc=0",
  prod: "dstack.tee=tdx",
};

/**
 * The kernel command line of an image. `rootHash`: 64 hex digits; `rootSize`: bytes of the file system,
 * which is also where its hash tree starts.
 */
export function kernelCommandLine(flavour: Flavour, rootHash: string, rootSize: number): string {
  if (!/^[0-9a-f]{64}$/.test(rootHash)) {
    throw new AppError("os-build/image-invalid", `'${rootHash}' is not a root hash`);
  }
  if (!Number.isSafeInteger(rootSize) || rootSize <= 0 || rootSize % 4096 !== 0) {
    throw new AppError("os-build/image-invalid", `A root of ${rootSize} bytes is not whole blocks`);
  }
  return `${FIXED} ${ADDED} dstack.rootfs_hash=${rootHash} dstack.rootfs_size=${rootSize} ` +
    BY_FLAVOUR[flavour];
}
