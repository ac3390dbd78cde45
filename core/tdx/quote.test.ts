import assert from "node:assert/strict";
import { test } from "node:test";
import { parserProperty } from "../../tests/parser-property.ts";
import { vectorBytes, vectorTest } from "../../tests/vectors.ts";
import { ByteWriter } from "../bytes/byte-writer.ts";
import { concatBytes, fromHex, toHex } from "../bytes/bytes.ts";
import { encodeQuoteV4, parseQuote } from "./quote.ts";

vectorTest("a v4 quote is parsed by field", () => {
  const quote = parseQuote(vectorBytes("intel/tdx_quote"));
  assert.deepEqual([quote.header.version, quote.header.tee], [4, "tdx"]);
  assert.ok(quote.body.kind === "td10");
  assert.equal(quote.signedBytes.length, 632);
  assert.equal(quote.bytes.length, 4936); // 70 zero bytes of padding follow
  assert.equal(quote.signatureData.certification.type, 5);
  assert.equal(toHex(quote.body.report.tdAttributes), "0000001000000000");
});

vectorTest("a v3 quote is parsed by field", () => {
  const quote = parseQuote(vectorBytes("intel/sgx_quote"));
  assert.deepEqual([quote.header.version, quote.header.tee], [3, "sgx"]);
  assert.ok(quote.body.kind === "sgx");
  assert.equal(quote.signedBytes.length, 432);
});

vectorTest("encodeQuoteV4() writes the capture's bytes", () => {
  const quote = parseQuote(vectorBytes("intel/tdx_quote"));
  assert.deepEqual(encodeQuoteV4(quote.signedBytes, quote.signatureData), quote.bytes);
});

/** A v5 quote from the capture's parts: body type and size between header and body. */
function v5(type: number, size: number, body: (v4Body: Uint8Array) => Uint8Array): Uint8Array {
  const v4 = vectorBytes("intel/tdx_quote").slice(0, 4936);
  const version = Uint8Array.of(5, 0);
  const descriptor = new ByteWriter().u16le(type).u32le(size).finish();
  return concatBytes(
    version,
    v4.slice(2, 48),
    descriptor,
    body(v4.slice(48, 632)),
    v4.slice(632),
  );
}

vectorTest("v5 quotes carry a TD 1.0 or 1.5 body", () => {
  const td10 = parseQuote(v5(2, 584, (body) => body));
  assert.ok(td10.body.kind === "td10");
  assert.equal(td10.signedBytes.length, 638);
  const extra = concatBytes(new Uint8Array(16).fill(1), new Uint8Array(48).fill(2));
  const td15 = parseQuote(v5(3, 648, (body) => concatBytes(body, extra)));
  assert.ok(td15.body.kind === "td15");
  assert.equal(td15.signedBytes.length, 702);
  assert.equal(toHex(td15.body.report.tdx15!.teeTcbSvn2), "01".repeat(16));
  assert.equal(toHex(td15.body.report.tdx15!.mrServiceTd), "02".repeat(48));
});

vectorTest("a v5 body size that is not its type's is refused", () => {
  assert.throws(() => parseQuote(v5(2, 648, (body) => body)), { code: "input/malformed" });
  assert.throws(() => parseQuote(v5(1, 384, (body) => body.slice(0, 384))), {
    code: "input/unsupported",
  });
});

for (
  const [what, offset, bytes, code] of [
    ["version 6", 0, "0600", "input/unsupported"],
    ["version 3 of a TD", 0, "0300", "input/unsupported"],
    ["attestation key type 3", 2, "0300", "input/unsupported"],
    ["TEE type 1", 4, "01000000", "input/unsupported"],
    ["TEE type SGX in version 4", 4, "00000000", "input/unsupported"],
    ["another QE vendor", 12, "00", "input/unsupported"],
    ["a signature section longer than the quote", 632, "ffff0000", "input/malformed"],
    ["a signature section cut short", 632, "cd100000", "input/malformed"],
    ["certification data of type 5", 764, "0500", "input/unsupported"],
  ] as const
) {
  vectorTest(`parseQuote() refuses ${what}`, () => {
    const quote = vectorBytes("intel/tdx_quote");
    quote.set(fromHex(bytes), offset);
    assert.throws(() => parseQuote(quote), { code });
  });
}

vectorTest("truncations are refused, zero padding is not, other padding is", () => {
  const { bytes } = parseQuote(vectorBytes("intel/tdx_quote"));
  for (let n = 0; n < bytes.length; n += 7) {
    assert.throws(() => parseQuote(bytes.slice(0, n)), { code: "input/malformed" });
  }
  assert.deepEqual(parseQuote(concatBytes(bytes, new Uint8Array(9))).bytes, bytes);
  const padded = concatBytes(bytes, new Uint8Array(9), Uint8Array.of(1));
  assert.throws(() => parseQuote(padded), { code: "input/malformed" });
});

test("an endless quote is refused before it is read", () => {
  assert.throws(() => parseQuote(new Uint8Array(1024 * 1024)), { code: "input/too-large" });
});

parserProperty("parseQuote()", parseQuote, () =>
  encodeQuoteV4(
    concatBytes(
      fromHex("040002008100000000000000939a7233f79c4ca9940a0db3957f0607"),
      new Uint8Array(20 + 584),
    ),
    {
      signature: new Uint8Array(64),
      attestationKey: new Uint8Array(64),
      qeReport: new Uint8Array(384),
      qeReportSignature: new Uint8Array(64),
      qeAuthData: new Uint8Array(32),
      certification: { type: 5, bytes: new Uint8Array(100).fill(0x41) },
    },
  ));
