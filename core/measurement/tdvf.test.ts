import assert from "node:assert/strict";
import { test } from "node:test";
import { ByteWriter } from "../bytes/byte-writer.ts";
import { concatBytes, toHex } from "../bytes/bytes.ts";
import { AppError } from "../errors/app-error.ts";
import { sha256Of } from "./digest.ts";
import { guid } from "./efi-constants.ts";
import { encodeTdHobWitness } from "./td-hob.ts";
import { acceptedMemoryOf, configVolumeOf, mrTdOf, parseTdvf } from "./tdvf.ts";

type SectionRow = [
  dataOffset: number,
  rawSize: number,
  address: number,
  memorySize: number,
  type: number,
  attributes: number,
];

const SIZE = 0x1_0000;
const METADATA_AT = SIZE - 0x400;

/** The layout of an IntelTdx build, and two rows a parser must not trip over: data that ends within a
 * chunk, and memory that the guest adds itself. */
const SECTIONS: readonly SectionRow[] = [
  [0x8000, 0x7f80, 0xffff8000, 0x8000, 0, 1],
  [0, 0x1000, 0xffff0000, 0x1000, 1, 0],
  [0, 0, 0x810000, 0x10000, 3, 0],
  [0, 0, 0x80b000, 0x2000, 3, 0],
  [0, 0, 0x809000, 0x2000, 2, 0],
  [0, 0, 0x800000, 0x6000, 3, 0],
  [0x1000, 0x180, 0x900000, 0x1000, 4, 3],
  [0, 0, 0, 0x80000000, 5, 2],
];

function metadata(sections: readonly SectionRow[]): Uint8Array {
  const w = new ByteWriter().utf8("TDVF").u32le(16 + 32 * sections.length).u32le(1);
  w.u32le(sections.length);
  for (const [offset, raw, address, memory, type, attributes] of sections) {
    w.u32le(offset).u32le(raw).u64le(BigInt(address)).u64le(BigInt(memory)).u32le(type);
    w.u32le(attributes);
  }
  return w.finish();
}

function footer(): Uint8Array {
  const entry = (data: Uint8Array, id: string) =>
    concatBytes(data, new ByteWriter().u16le(data.length + 18).finish(), guid(id));
  const offset = new ByteWriter().u32le(SIZE - METADATA_AT).finish();
  const entries = concatBytes(
    entry(new Uint8Array(4).fill(0x11), "4c2eb361-7d9b-4cc3-8081-127c90d3d294"),
    entry(offset, "e47a6535-984a-4798-865e-4685a7bf8ec2"),
    entry(new Uint8Array(8).fill(0x22), "00f771de-1a7e-4fcb-890e-68c77e2fb44e"),
  );
  const length = new ByteWriter().u16le(entries.length + 18).finish();
  return concatBytes(entries, length, guid("96b582de-1fb2-45f7-baea-a366c55a082d"));
}

function firmware(sections: readonly SectionRow[] = SECTIONS): Uint8Array {
  const image = Uint8Array.from({ length: SIZE }, (_, i) => i * 7 + 3 + (i >> 8));
  image.set(metadata(sections), METADATA_AT);
  const table = footer();
  image.set(table, SIZE - 32 - table.length);
  return image;
}

// Both digests were computed from this very file by a separate script written from the TDX module
// specification; the file's own digest shows that it is the same one.
test("MRTD in one and two passes", async () => {
  const image = firmware();
  assert.equal(
    toHex(await sha256Of(image)),
    "e57bfdd8e826ddb897a7193c98b6bbd9b8e2aa8acb57ddff26ce7295d6abbfdc",
  );
  const sections = parseTdvf(image);
  assert.equal(
    toHex(await mrTdOf(image, sections, false)),
    "69eee04afe8f72a2c0ebb8eb14d1d932d9aa193f1404bb69d82375e7d19e626bc9c9f0238c1cdbb3d28c425623a10799",
  );
  assert.equal(
    toHex(await mrTdOf(image, sections, true)),
    "ef728db6fda9dc4e3f5aba8bb054af4d2dcef179a197b84920bf03d962722f775a50f1e2eb9244c5e9d3094e30f9700c",
  );
});

test("the accepted memory is that of the sections TD HOB and temporary memory", () => {
  const witness = encodeTdHobWitness(acceptedMemoryOf(parseTdvf(firmware())));
  assert.equal(toHex(witness), "80100904000609020b021010");
});

test("the configuration volume is the section of that type", () => {
  const image = firmware();
  assert.deepEqual(configVolumeOf(image, parseTdvf(image)), image.subarray(0, 0x1000));
});

test("sections that lie, overflow or are too many are refused", () => {
  const replaceFirst = (row: SectionRow) => [row, ...SECTIONS.slice(1)];
  const bad: SectionRow[][] = [
    replaceFirst([0x8000, 0x8001, 0xffff8000, 0x8000, 0, 1]),
    replaceFirst([0xf000, 0x1001, 0xffff8000, 0x2000, 0, 1]),
    replaceFirst([0x8000, 0x1000, 0xffff8001, 0x1000, 0, 1]),
    replaceFirst([0x8000, 0x1000, 0xffff8000, 0x1001, 0, 1]),
  ];
  for (const sections of bad) assert.throws(() => parseTdvf(firmware(sections)), AppError);
  const many = firmware();
  many[METADATA_AT + 12] = 65;
  assert.throws(() => parseTdvf(many), /65 sections/);
});

test("a firmware that asks to measure gigabytes is refused before any work", async () => {
  const huge: SectionRow = [0, 0, 0, 0x8000_0000, 5, 0];
  const image = firmware([...SECTIONS, huge]);
  const sections = parseTdvf(image);
  await assert.rejects(async () => await mrTdOf(image, sections, false), /measured pages/);
});

test("files without footer, table or metadata are refused", () => {
  assert.throws(() => parseTdvf(new Uint8Array(10)), AppError);
  assert.throws(() => parseTdvf(new Uint8Array(SIZE)), /not a TDVF image/);
  const noSignature = firmware();
  noSignature[METADATA_AT] = 0;
  assert.throws(() => parseTdvf(noSignature), /no signature/);
  const badEntry = firmware();
  badEntry[SIZE - 32 - 18 - 18] = 0xff; // the last entry's size
  assert.throws(() => parseTdvf(badEntry), /bad size|no TDVF entry/);
});
