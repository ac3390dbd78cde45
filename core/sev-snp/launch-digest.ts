import { sha256, sha384 } from "@noble/hashes/sha2.js";
import { ByteWriter } from "../bytes/byte-writer.ts";
import { concatBytes, fromHex, utf8 } from "../bytes/bytes.ts";
import { AppError } from "../errors/app-error.ts";

const PAGE_BYTES = 4096;
const MAX_SECTIONS = 64;
const MAX_SECTION_PAGES = 16_777_216;
const MAX_VCPUS = 512;

/** Page types of SNP_LAUNCH_UPDATE (ABI table 67). */
const PAGE = { normal: 1, vmsa: 2, zero: 3, secrets: 5, cpuid: 6 } as const;

/** What OVMF's SEV metadata calls the ranges that the VMM adds before launch. */
export const SECTION = {
  securityMemory: 1,
  secrets: 2,
  cpuid: 3,
  svsmCaa: 4,
  kernelHashes: 0x10,
} as const;
const SECTION_TYPES: readonly number[] = Object.values(SECTION);

export interface OvmfSection {
  /** Guest physical address. */
  readonly gpa: number;
  /** Bytes. */
  readonly size: number;
  readonly type: number;
}

/** All that the launch digest of a guest depends on (spec attestation.md 5.7). */
export interface SnpLaunch {
  readonly cmdline: string;
  /** Launch digest after the firmware's pages, SHA-384: `ovmfHash()`. */
  readonly ovmfHash: Uint8Array;
  readonly kernelHash: Uint8Array;
  /** SHA-256; of no bytes without an initrd. */
  readonly initrdHash: Uint8Array;
  readonly hashesTableGpa: number;
  /** Where processors but the first start. */
  readonly resetEip: number;
  readonly sections: readonly OvmfSection[];
  readonly vcpus: number;
  /** QEMU's name of the processor model. */
  readonly vcpuType: string;
  /** SEV_FEATURES of the VMSA. */
  readonly guestFeatures: number;
}

/**
 * MEASUREMENT of a guest that QEMU launches so: firmware, its metadata pages with the hashes of kernel,
 * initrd and command line among them, then one VMSA a processor. SHA-384. Throws `measurement/unsupported`.
 */
export function snpLaunchDigest(launch: SnpLaunch): Uint8Array {
  requireSupported(launch);
  const signature = cpuSignatureOf(launch.vcpuType);
  const zero = new Uint8Array(48);
  let digest = launch.ovmfHash;
  for (const { gpa, size, type } of launch.sections) {
    const update = (page: number, contents: Uint8Array, at = gpa) => {
      digest = updateLaunchDigest(digest, page, at, contents);
    };
    switch (type) {
      case SECTION.secrets:
        update(PAGE.secrets, zero);
        break;
      case SECTION.cpuid:
        update(PAGE.cpuid, zero);
        break;
      case SECTION.kernelHashes:
        update(PAGE.normal, sha384(kernelHashesPage(launch)));
        break;
      default:
        for (let at = 0; at < size; at += PAGE_BYTES) update(PAGE.zero, zero, gpa + at);
    }
  }
  for (let cpu = 0; cpu < launch.vcpus; cpu++) {
    const eip = cpu === 0 ? BOOT_EIP : launch.resetEip;
    const page = vmsaPage(eip, signature, launch.guestFeatures);
    digest = updateLaunchDigest(digest, PAGE.vmsa, VMSA_GPA, sha384(page));
  }
  return digest;
}

/** The launch digest after `firmware`, which ends at 4 GiB. The start of every guest with it. */
export function ovmfHash(firmware: Uint8Array): Uint8Array {
  if (firmware.length === 0 || firmware.length % PAGE_BYTES !== 0) {
    throw unsupported("firmware is not whole pages");
  }
  let digest: Uint8Array = new Uint8Array(48);
  for (let at = 0; at < firmware.length; at += PAGE_BYTES) {
    const gpa = 2 ** 32 - firmware.length + at;
    const contents = sha384(firmware.subarray(at, at + PAGE_BYTES));
    digest = updateLaunchDigest(digest, PAGE.normal, gpa, contents);
  }
  return digest;
}

/** One SNP_LAUNCH_UPDATE: SHA-384 of PAGE_INFO, 112 bytes (ABI table 68). */
export function updateLaunchDigest(
  digest: Uint8Array,
  pageType: number,
  gpa: number,
  contents: Uint8Array,
): Uint8Array {
  return sha384(
    new ByteWriter().bytes(digest).bytes(contents)
      .u16le(PAGE_INFO_BYTES).u8(pageType).zeros(5).u64le(BigInt(gpa))
      .finish(),
  );
}
const PAGE_INFO_BYTES = 0x70;

/** GUIDs of QEMU's table of hashes, in memory order. */
const TABLE_GUID = fromHex("06d63894224fc94cb479a793d411fd21");
const CMDLINE_GUID = fromHex("d82dd09720bd944caa78e7714d36ab2a");
const INITRD_GUID = fromHex("31f7ba442f3ad74b9af141e29169781d");
const KERNEL_GUID = fromHex("3794e74dd2ab7f42b835d5b172d2045b");
const TABLE_BYTES = 168;
const PADDED_TABLE_BYTES = 176;

/** The page with the table of hashes that the firmware compares kernel, initrd and command line with. */
function kernelHashesPage(launch: SnpLaunch): Uint8Array {
  const offset = launch.hashesTableGpa % PAGE_BYTES;
  if (offset + PADDED_TABLE_BYTES > PAGE_BYTES) {
    throw unsupported("the table of hashes does not fit its page");
  }
  const cmdlineHash = sha256(concatBytes(utf8(launch.cmdline.trim()), Uint8Array.of(0)));
  const w = new ByteWriter().zeros(offset).bytes(TABLE_GUID).u16le(TABLE_BYTES);
  const entries = [
    [CMDLINE_GUID, cmdlineHash],
    [INITRD_GUID, launch.initrdHash],
    [KERNEL_GUID, launch.kernelHash],
  ] as const;
  for (const [guid, hash] of entries) w.bytes(guid).u16le(16 + 2 + 32).bytes(hash);
  return w.zeros(PAGE_BYTES - w.length).finish();
}

const VMSA_GPA = 0xffff_ffff_f000;
/** The reset vector, where the first processor starts. */
const BOOT_EIP = 0xffff_fff0;

/** A processor's state at launch as KVM saves it (AMD64 manual volume 2, table B-4). */
function vmsaPage(eip: number, cpuSignature: number, features: number): Uint8Array {
  const page = new Uint8Array(PAGE_BYTES);
  const view = new DataView(page.buffer);
  const u64 = (at: number, value: bigint) => view.setBigUint64(at, value, true);
  const segment = (at: number, attributes: number, selector = 0, base = 0) => {
    view.setUint16(at, selector, true);
    view.setUint16(at + 2, attributes, true);
    view.setUint32(at + 4, 0xffff, true); // limit
    u64(at + 8, BigInt(base));
  };
  segment(0x00, 0x93); // ES
  segment(0x10, 0x9b, 0xf000, (eip & 0xffff_0000) >>> 0); // CS
  for (const at of [0x20, 0x30, 0x40, 0x50]) segment(at, 0x93); // SS, DS, FS, GS
  segment(0x60, 0); // GDTR
  segment(0x70, 0x82); // LDTR
  segment(0x80, 0); // IDTR
  segment(0x90, 0x8b); // TR
  u64(0x0d0, 0x1000n); // EFER: SVME
  u64(0x148, 0x40n); // CR4: MCE
  u64(0x158, 0x10n); // CR0: ET
  u64(0x160, 0x400n); // DR7
  u64(0x168, 0xffff_0ff0n); // DR6
  u64(0x170, 2n); // RFLAGS
  u64(0x178, BigInt(eip & 0xffff)); // RIP
  u64(0x268, 0x0007_0406_0007_0406n); // G_PAT
  u64(0x310, BigInt(cpuSignature)); // RDX
  u64(0x3b0, BigInt(features)); // SEV_FEATURES
  u64(0x3e8, 1n); // XCR0
  view.setUint32(0x408, 0x1f80, true); // MXCSR
  view.setUint16(0x410, 0x037f, true); // FCW
  return page;
}

/** CPUID 1 EAX of QEMU's EPYC models. */
const CPU_SIGNATURES: readonly (readonly [RegExp, number])[] = [
  [/^epyc(-v[1-4]|-ibpb)?$/, 0x800f12],
  [/^epyc-rome(-v[1-3])?$/, 0x830f10],
  [/^epyc-milan(-v[12])?$/, 0xa00f11],
  [/^epyc-genoa(-v1)?$/, 0xa10f10],
];

function cpuSignatureOf(vcpuType: string): number {
  const name = vcpuType.toLowerCase();
  const known = CPU_SIGNATURES.find(([pattern]) => pattern.test(name));
  if (known) return known[1];
  throw unsupported(`processor model ${JSON.stringify(vcpuType.slice(0, 40))} is unknown`);
}

function requireSupported(launch: SnpLaunch): void {
  const { sections, vcpus } = launch;
  if (launch.guestFeatures === 0) throw unsupported("the guest has no SEV features");
  if (!/(^|\s)dstack\.rootfs_hash=[0-9a-fA-F]{64}(\s|$)/.test(launch.cmdline)) {
    throw unsupported("the command line does not bind a root file system");
  }
  if (!Number.isSafeInteger(vcpus) || vcpus < 1 || vcpus > MAX_VCPUS) {
    throw unsupported(`${vcpus} processors, 1 to ${MAX_VCPUS} are supported`);
  }
  if (sections.length < 1 || sections.length > MAX_SECTIONS) {
    throw unsupported(`${sections.length} firmware sections, 1 to ${MAX_SECTIONS} are supported`);
  }
  let pages = 0;
  for (const { size, type } of sections) {
    if (!SECTION_TYPES.includes(type)) throw unsupported(`firmware section of type ${type}`);
    if (size <= 0) throw unsupported("a firmware section is empty");
    pages += Math.ceil(size / PAGE_BYTES);
  }
  if (pages > MAX_SECTION_PAGES) throw unsupported(`${pages} pages of firmware sections`);
  if (!sections.some(({ type }) => type === SECTION.kernelHashes)) {
    throw unsupported("the firmware has no room for the hashes of the kernel");
  }
  if (launch.hashesTableGpa === 0 || launch.resetEip === 0) {
    throw unsupported("the firmware names no table of hashes or no reset vector");
  }
}

function unsupported(why: string): AppError {
  return new AppError("measurement/unsupported", `Cannot compute an SEV-SNP launch digest: ${why}`);
}
