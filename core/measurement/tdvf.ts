import { ByteReader } from "../bytes/byte-reader.ts";
import { equalBytes, utf8 } from "../bytes/bytes.ts";
import { AppError } from "../errors/app-error.ts";
import { sha384Of } from "./digest.ts";
import { guid } from "./efi-constants.ts";
import type { AcceptedMemory } from "./td-hob.ts";

const PAGE = 4096;
const CHUNK = 256;
const FOOTER_GUID = guid("96b582de-1fb2-45f7-baea-a366c55a082d");
const TDVF_OFFSET_GUID = guid("e47a6535-984a-4798-865e-4685a7bf8ec2");
const MAX_SECTIONS = 64;
/** Most pages that may enter MRTD, 64 MiB: far beyond any firmware, near enough to bound the work. */
const MAX_MEASURED_PAGES = 16384;

/** Section types of the TDVF design guide, section 11.2. */
export const TDVF_SECTION = { bootVolume: 0, configVolume: 1, tdHob: 2, tempMemory: 3 } as const;

const ATTRIBUTE = { extend: 1, augment: 2 } as const;

/** One run of guest memory that the firmware asks for. Addresses and sizes in bytes. */
export interface TdvfSection {
  readonly dataOffset: number;
  readonly rawSize: number;
  readonly address: number;
  readonly memorySize: number;
  readonly type: number;
  /** Its content enters MRTD. */
  readonly extended: boolean;
  /** Added when the TD runs, so even its address stays out of MRTD. */
  readonly augmented: boolean;
}

/** Reads the section table of an Intel TDX firmware image. Throws `input/malformed`. */
export function parseTdvf(firmware: Uint8Array): readonly TdvfSection[] {
  const at = firmware.length - tdvfOffset(firmware);
  if (at < 0) throw malformed("the metadata offset is larger than the file");
  const r = new ByteReader(firmware.subarray(at), "TDVF metadata");
  if (r.utf8("signature", 4) !== "TDVF") throw malformed("no signature where the footer points");
  r.u32le("length");
  const version = r.u32le("version");
  if (version !== 1) throw malformed(`version ${version}`);
  const count = r.u32le("section count");
  if (count > MAX_SECTIONS) throw malformed(`${count} sections, at most ${MAX_SECTIONS}`);
  return Array.from({ length: count }, () => readSection(r, firmware.length));
}

function readSection(r: ByteReader, firmwareLength: number): TdvfSection {
  const dataOffset = r.u32le("data offset");
  const rawSize = r.u32le("raw size");
  const address = Number(r.u64le("address"));
  const memorySize = Number(r.u64le("memory size"));
  const type = r.u32le("type");
  const attributes = r.u32le("attributes");
  if (address % PAGE !== 0 || memorySize % PAGE !== 0) {
    throw malformed("a section is not page aligned");
  }
  if (!Number.isSafeInteger(address + memorySize)) throw malformed("a section ends beyond 2^53");
  if (memorySize < rawSize) throw malformed("a section holds more data than memory");
  if (dataOffset + rawSize > firmwareLength) {
    throw malformed("a section's data lies outside the file");
  }
  const extended = (attributes & ATTRIBUTE.extend) !== 0;
  const augmented = (attributes & ATTRIBUTE.augment) !== 0;
  return { dataOffset, rawSize, address, memorySize, type, extended, augmented };
}

/** The table ends 32 bytes before the file does and is walked from its end: data, u16 size, GUID. */
function tdvfOffset(firmware: Uint8Array): number {
  const end = firmware.length - 32;
  if (end < 18) throw malformed("the file is too short");
  const view = new DataView(firmware.buffer, firmware.byteOffset, firmware.byteLength);
  const isGuid = (at: number, id: Uint8Array) => equalBytes(firmware.subarray(at, at + 16), id);
  if (!isGuid(end - 16, FOOTER_GUID)) throw malformed("no footer GUID: not a TDVF image");
  const start = end - view.getUint16(end - 18, true);
  let at = end - 18;
  while (at - 18 >= Math.max(start, 0)) {
    const size = view.getUint16(at - 18, true);
    if (size < 18 || at - size < Math.max(start, 0)) {
      throw malformed("a footer entry has a bad size");
    }
    if (isGuid(at - 16, TDVF_OFFSET_GUID)) {
      if (size < 22) throw malformed("the TDVF footer entry has no offset");
      return view.getUint32(at - 22, true);
    }
    at -= size;
  }
  throw malformed("no TDVF entry in the footer");
}

/** Which memory TDVF accepts before it writes the TD HOB list, and where that list goes. */
export function acceptedMemoryOf(sections: readonly TdvfSection[]): AcceptedMemory {
  const hob = sections.filter((section) => section.type === TDVF_SECTION.tdHob);
  if (hob.length !== 1) throw malformed(`${hob.length} TD HOB sections, expected 1`);
  const ranges = sections
    .filter(({ type }) => type === TDVF_SECTION.tdHob || type === TDVF_SECTION.tempMemory)
    .map(({ address, memorySize }) => ({ start: address, pages: memorySize / PAGE }))
    .toSorted((a, b) => a.start - b.start);
  return { hobAddress: hob[0]!.address, ranges };
}

/** The configuration firmware volume: measured into RTMR0, not into MRTD. */
export function configVolumeOf(
  firmware: Uint8Array,
  sections: readonly TdvfSection[],
): Uint8Array | undefined {
  const section = sections.find(({ type }) => type === TDVF_SECTION.configVolume);
  return section &&
    firmware.subarray(section.dataOffset, section.dataOffset + section.rawSize);
}

/**
 * MRTD of a TD built from this firmware, 48 bytes. `twoPass`: per section, every TDH.MEM.PAGE.ADD comes
 * before the first TDH.MR.EXTEND (TDX module specification, 12.2.1).
 */
export function mrTdOf(
  firmware: Uint8Array,
  sections: readonly TdvfSection[],
  twoPass: boolean,
): Promise<Uint8Array> {
  const log = new MrTdLog(sections);
  for (const section of sections) {
    const pages = section.memorySize / PAGE;
    const content = { firmware, section };
    if (twoPass && section.extended) {
      for (let page = 0; page < pages && !section.augmented; page++) log.add(section, page);
      for (let page = 0; page < pages; page++) log.extend(content, page);
      continue;
    }
    for (let page = 0; page < pages; page++) {
      if (section.augmented && !section.extended) break;
      if (!section.augmented) log.add(section, page);
      if (section.extended) log.extend(content, page);
    }
  }
  return sha384Of(log.finish());
}

const ADD = utf8("MEM.PAGE.ADD");
const EXTEND = utf8("MR.EXTEND");
const RECORD = 128;
const EXTEND_PAGE = (PAGE / CHUNK) * (RECORD + CHUNK);

/** What the TDX module hashes, in one buffer: one native digest beats 30,000 small updates. */
class MrTdLog {
  readonly #bytes: Uint8Array;
  readonly #view: DataView;
  #length = 0;

  constructor(sections: readonly TdvfSection[]) {
    let pages = 0;
    let length = 0;
    for (const { memorySize, extended, augmented } of sections) {
      const measured = extended || !augmented ? memorySize / PAGE : 0;
      pages += measured;
      length += measured * ((augmented ? 0 : RECORD) + (extended ? EXTEND_PAGE : 0));
    }
    if (pages > MAX_MEASURED_PAGES) throw malformed(`${pages} measured pages, at most 16384`);
    this.#bytes = new Uint8Array(length);
    this.#view = new DataView(this.#bytes.buffer);
  }

  add(section: TdvfSection, page: number): void {
    this.#record(ADD, section.address + page * PAGE);
  }

  extend(
    { firmware, section }: { firmware: Uint8Array; section: TdvfSection },
    page: number,
  ): void {
    for (let offset = page * PAGE; offset < (page + 1) * PAGE; offset += CHUNK) {
      this.#record(EXTEND, section.address + offset);
      // Memory past the section's data is zero, as the buffer already is.
      if (offset < section.rawSize) {
        const start = section.dataOffset + offset;
        const end = section.dataOffset + Math.min(offset + CHUNK, section.rawSize);
        this.#bytes.set(firmware.subarray(start, end), this.#length);
      }
      this.#length += CHUNK;
    }
  }

  finish(): Uint8Array {
    return this.#bytes.subarray(0, this.#length);
  }

  #record(name: Uint8Array, address: number): void {
    this.#bytes.set(name, this.#length);
    this.#view.setBigUint64(this.#length + 16, BigInt(address), true);
    this.#length += RECORD;
  }
}

function malformed(why: string): AppError {
  return new AppError("input/malformed", `Cannot parse firmware: ${why}`);
}
