import assert from "node:assert/strict";
import { test } from "node:test";
import { pattern, type SectionRow, tdxFirmware, withTdvf } from "../../tests/fixtures/tdx-image.ts";
import { toHex } from "../bytes/bytes.ts";
import { AppError } from "../errors/app-error.ts";
import { sha256Of, sha384Of } from "./digest.ts";
import { EMPTY_CFV_SHA384 } from "./efi-constants.ts";
import { encodeTdHobWitness } from "./td-hob.ts";
import { acceptedMemoryOf, configVolumeOf, mrTdOf, parseTdvf } from "./tdvf.ts";

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

function firmware(sections: readonly SectionRow[] = SECTIONS): Uint8Array {
  return withTdvf(pattern(SIZE, 7, 3), sections);
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

// The volume is built from its definition; Debian's OVMF_VARS_4M.fd is the same file.
test("the constant of RTMR0 is the digest of a variable store without variables", async () => {
  const image = tdxFirmware();
  const volume = configVolumeOf(image, parseTdvf(image))!;
  assert.equal(toHex(await sha384Of(volume)), toHex(EMPTY_CFV_SHA384));
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
