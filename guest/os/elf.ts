import { ByteReader } from "#core/bytes/byte-reader.ts";

const MAGIC = [0x7f, 0x45, 0x4c, 0x46, 2, 1]; // 64-bit, little-endian
const PT_LOAD = 1;
const PT_DYNAMIC = 2;
const DT_NEEDED = 1n;
const DT_STRTAB = 5n;
const PROGRAM_HEADER_LENGTH = 56;

/**
 * The sonames a program or library needs (`DT_NEEDED`, System V ABI chapter 5), or undefined when the
 * bytes are not a 64-bit ELF file. A static one needs none.
 */
export function neededLibraries(file: Uint8Array): string[] | undefined {
  if (file.length < 64 || MAGIC.some((byte, i) => file[i] !== byte)) return undefined;
  const view = new DataView(file.buffer, file.byteOffset, file.byteLength);
  const headersAt = Number(view.getBigUint64(32, true));
  const count = view.getUint16(56, true);
  const loads: { address: bigint; offset: bigint; length: bigint }[] = [];
  let dynamic: Uint8Array | undefined;
  for (let i = 0; i < count; i++) {
    const at = headersAt + i * PROGRAM_HEADER_LENGTH;
    const type = view.getUint32(at, true);
    const offset = view.getBigUint64(at + 8, true);
    const length = view.getBigUint64(at + 32, true);
    if (type === PT_LOAD) loads.push({ address: view.getBigUint64(at + 16, true), offset, length });
    if (type === PT_DYNAMIC) dynamic = file.subarray(Number(offset), Number(offset + length));
  }
  if (dynamic === undefined) return [];
  const names: bigint[] = [];
  let stringsAt = 0n;
  const reader = new ByteReader(dynamic, "ELF dynamic section");
  while (reader.remaining >= 16) {
    const tag = reader.u64le("d_tag");
    const value = reader.u64le("d_val");
    if (tag === 0n) break;
    if (tag === DT_NEEDED) names.push(value);
    if (tag === DT_STRTAB) stringsAt = value;
  }
  const segment = loads.find((s) => stringsAt >= s.address && stringsAt < s.address + s.length);
  if (segment === undefined) return [];
  const strings = Number(stringsAt - segment.address + segment.offset);
  return names.map((name) => {
    const start = strings + Number(name);
    return new TextDecoder().decode(file.subarray(start, file.indexOf(0, start)));
  });
}
