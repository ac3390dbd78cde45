import assert from "node:assert/strict";
import { test } from "node:test";
import { fromHex, toHex } from "../bytes/bytes.ts";
import { AppError } from "../errors/app-error.ts";
import { encodeTdHobWitness, parseTdHobWitness, tdHobDigest } from "./td-hob.ts";

// Witness and digests: spec/attestation.md 5.4; 2, 16 and 64 GiB also stand in Intel-signed quotes.
const WITNESS = "80100904000609020b021010";
const GIB = 2 ** 30;
const DIGESTS: [number, string][] = [
  [
    GIB,
    "1055c9b9a1fc534e688560e2304e18c8597b7261818cf61fb163d40c130547309b750575947a4dcaedbdce4b8d0535f2",
  ],
  [
    2 * GIB,
    "0b8772e5b0b41b83e6044a68397e02f49fb47066b4fbe4917ea2c45c64f323fdacbb37948f821ebaf8bc9c938ba8a749",
  ],
  [
    0xb0000000,
    "8eb1a02074362aa0761541cdb4dc3f1788dfeb4538803b241477848e26de294dbe917ab56c5628732679b3abc168c2de",
  ],
  [
    3 * GIB,
    "798f84285da30f6c295fbb73e3c093cf13164b6ad9d547a123b8d4d305f87a027caaba88e4cfd684ed7b424f37811a2e",
  ],
  [
    4 * GIB,
    "5b684faf8d02a733945f821d9cdd170802e72103977acf66949c9382500283adc90cbec57f8e7653f8bee1cab83689de",
  ],
  [
    8 * GIB,
    "2e070cda358b5aa00f27cca25c47381bb564f4be3a84d059805a73cbbde764ed8341f7e09915b5e7b370f9c08a743fbd",
  ],
  [
    16 * GIB,
    "cd2312a0d87ef3c4a928df87088969a80b33d7bf3fc584bdde637b09ed808a8d821a56b78a13a6eb506db7578444abbe",
  ],
  [
    64 * GIB,
    "8ae1e425351df7992c444586eff99d35af3b779aa2b0e981cb4b73bc5b279f2ade19b6a62a203fc3c3bbdaae80af596d",
  ],
];

test("the witness of current images names four ranges", () => {
  assert.deepEqual(parseTdHobWitness(fromHex(WITNESS)), {
    hobAddress: 0x809000,
    ranges: [
      { start: 0x800000, pages: 6 },
      { start: 0x809000, pages: 2 },
      { start: 0x80b000, pages: 2 },
      { start: 0x810000, pages: 16 },
    ],
  });
});

test("the witness is written as it was read", () => {
  assert.equal(toHex(encodeTdHobWitness(parseTdHobWitness(fromHex(WITNESS)))), WITNESS);
});

for (const [memoryBytes, digest] of DIGESTS) {
  test(`the HOB digest of ${memoryBytes / GIB} GiB is the known one`, () => {
    const accepted = parseTdHobWitness(fromHex(WITNESS));
    assert.equal(toHex(tdHobDigest(accepted, memoryBytes)), digest);
  });
}

test("truncated, trailing, overlapping and overlong witnesses are refused", () => {
  const bytes = fromHex(WITNESS);
  for (let length = 0; length < bytes.length; length++) {
    assert.throws(() => parseTdHobWitness(bytes.subarray(0, length)), AppError);
  }
  for (
    const bad of [
      WITNESS + "00",
      "8010090200060502",
      "80100900",
      "801009010000",
      "8080808000090100",
    ]
  ) {
    assert.throws(() => parseTdHobWitness(fromHex(bad)), AppError, bad);
  }
});

test("memory that cannot hold the accepted ranges is refused", () => {
  const accepted = parseTdHobWitness(fromHex(WITNESS));
  assert.throws(() => tdHobDigest(accepted, 0x800000), AppError);
  assert.throws(() => tdHobDigest(accepted, GIB + 1), AppError);
});
