import { AppError } from "../errors/app-error.ts";
import { HIGH_MEMORY_THRESHOLD } from "./td-hob.ts";

/** What QEMU leaves below the top of low memory for ACPI tables. */
const ACPI_DATA_SIZE = 0x2_8000;
const DEFAULT_INITRD_MAX = 0x37ff_ffff;

/** The memory size that stands for every size with the same kernel digest. */
export const LITE_MEMORY_BYTES = 0x8000_0000;

/**
 * The kernel as the firmware measures it: QEMU fills the Linux boot protocol's setup header in place
 * (hw/i386/x86-common.c, x86_load_linux). Throws `input/malformed` for a file that is no kernel and
 * `measurement/unsupported` when the initrd does not fit.
 */
export function patchKernel(
  kernel: Uint8Array,
  initrdLength: number,
  memoryBytes: number,
): Uint8Array {
  if (kernel.length < 0x1000) throw malformed("shorter than 4096 bytes");
  const patched = kernel.slice();
  const view = new DataView(patched.buffer);
  const protocol = view.getUint16(0x206, true);
  const isLoadedLow = protocol < 0x200 || (patched[0x211]! & 1) === 0;
  const realAddress = isLoadedLow ? 0x9_0000 : 0x1_0000;
  const cmdlineAddress = isLoadedLow ? 0x9_a000 : 0x2_0000;

  if (protocol >= 0x200) patched[0x210] = 0xb0; // type_of_loader: QEMU
  if (protocol >= 0x201) {
    patched[0x211]! |= 0x80; // loadflags: CAN_USE_HEAP
    view.setUint16(0x224, cmdlineAddress - realAddress - 0x200, true); // heap_end_ptr
  }
  if (protocol >= 0x202) {
    view.setUint32(0x228, cmdlineAddress, true); // cmd_line_ptr
  } else {
    view.setUint16(0x20, 0xa33f, true);
    view.setUint16(0x22, cmdlineAddress - realAddress, true);
  }
  if (initrdLength > 0) {
    if (protocol < 0x200) throw malformed(`boot protocol ${protocol} cannot load an initrd`);
    const max = initrdMax(view, protocol, memoryBytes);
    if (initrdLength >= max) {
      throw new AppError(
        "measurement/unsupported",
        `An initrd of ${initrdLength} bytes does not fit below ${max}`,
      );
    }
    view.setUint32(0x218, (max - initrdLength) - (max - initrdLength) % 4096, true); // ramdisk_image
    view.setUint32(0x21c, initrdLength, true); // ramdisk_size
  }
  return patched;
}

/**
 * The kernel file as an image should ship it: with the header QEMU up to 10.1 writes. QEMU from 10.2 on
 * leaves the header of a confidential VM alone, so only a file that already holds these values has one
 * digest under both, for every memory size `supportsLiteMeasurement` names.
 */
export function normalizeKernelHeader(kernel: Uint8Array, initrdLength: number): Uint8Array {
  return patchKernel(kernel, initrdLength, LITE_MEMORY_BYTES);
}

/** Highest address the initrd may reach. */
function initrdMax(view: DataView, protocol: number, memoryBytes: number): number {
  let max = DEFAULT_INITRD_MAX;
  if (protocol >= 0x20c) {
    if ((view.getUint16(0x236, true) & 0x40) !== 0) max = 0xffff_ffff; // XLF_CAN_BE_LOADED_ABOVE_4G
  } else if (protocol >= 0x203) {
    max = view.getUint32(0x22c, true) || DEFAULT_INITRD_MAX; // initrd_addr_max
  }
  const lowMemoryTop = memoryBytes < HIGH_MEMORY_THRESHOLD ? HIGH_MEMORY_THRESHOLD : 0x8000_0000;
  const below4g = Math.min(memoryBytes, lowMemoryTop);
  return max >= below4g - ACPI_DATA_SIZE ? below4g - ACPI_DATA_SIZE - 1 : max;
}

function malformed(why: string): AppError {
  return new AppError("input/malformed", `Cannot parse kernel: ${why}`);
}
