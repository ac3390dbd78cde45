/** zstd (RFC 8878, section 3.1.1). */
const ZSTD_MAGIC = 0xfd2f_b528;
/** Boot protocol 2.08 introduced payload_offset and payload_length. */
const PAYLOAD_PROTOCOL = 0x208;

/**
 * The zstd frame a bzImage unpacks itself from (Documentation/arch/x86/boot.rst, "payload_offset"), or
 * undefined for a kernel that is older, compressed otherwise, or no kernel.
 */
export function compressedKernel(bzImage: Uint8Array): Uint8Array | undefined {
  if (bzImage.length < 0x250) return undefined;
  const view = new DataView(bzImage.buffer, bzImage.byteOffset, bzImage.length);
  if (view.getUint32(0x202, false) !== 0x4864_7253) return undefined; // "HdrS"
  if (view.getUint16(0x206, true) < PAYLOAD_PROTOCOL) return undefined;
  const start = (bzImage[0x1f1]! + 1) * 512 + view.getUint32(0x248, true);
  // The kernel's build appends the unpacked size to the frame, four bytes.
  const end = start + view.getUint32(0x24c, true) - 4;
  if (start + 4 > end || end > bzImage.length) return undefined;
  return view.getUint32(start, true) === ZSTD_MAGIC ? bzImage.subarray(start, end) : undefined;
}

/** Name, and type XEN_ELFNOTE_PHYS32_ENTRY (18), of the note that says where a PVH boot enters. */
const PVH_NOTES = [4, 8].map((length) =>
  Buffer.of(4, 0, 0, 0, length, 0, 0, 0, 18, 0, 0, 0, 0x58, 0x65, 0x6e, 0)
);

/** Whether QEMU can start this unpacked kernel directly (x86/HVM direct boot ABI). */
export function bootsDirectly(vmlinux: Uint8Array): boolean {
  const bytes = Buffer.from(vmlinux.buffer, vmlinux.byteOffset, vmlinux.length);
  return bytes.readUInt32BE(0) === 0x7f45_4c46 && PVH_NOTES.some((note) => bytes.includes(note));
}
