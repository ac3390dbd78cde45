import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { parserProperty } from "../../tests/parser-property.ts";
import { vectorBytes, vectorTest, vectorText } from "../../tests/vectors.ts";
import { concatBytes, fromHex, toHex, utf8 } from "../bytes/bytes.ts";
import { decodeMsgpack, encodeMsgpack, type MsgpackValue } from "../encoding/msgpack.ts";
import type { Attestation } from "./attestation.ts";
import { encodeAttestationV0 } from "./attestation-v0.ts";
import { encodeAttestationV1 } from "./attestation-v1.ts";
import {
  decodeAttestation,
  encodeAttestation,
  fitsV0,
  stripAttestation,
} from "./versioned-attestation.ts";

const NONE = new Uint8Array(0);
const EMPTY_TDX: Attestation = {
  platform: { kind: "tdx", quote: NONE, eventLog: [] },
  stack: { kind: "dstack", reportData: new Uint8Array(64), runtimeEvents: [], config: "" },
};

test("the empty TDX attestation is the 70 bytes of spec attestation.md 3.2", () => {
  const expected = `0000000000${"00".repeat(64)}00`;
  assert.equal(toHex(encodeAttestation(EMPTY_TDX)), expected);
  assert.deepEqual(decodeAttestation(fromHex(expected)), EMPTY_TDX);
});

for (
  const [what, file, kind] of [
    ["TDX", "dstack/tdx-lite-attestation.json", "tdx"],
    ["full-log TDX", "dstack/simulator/attestation.bin", "tdx"],
    ["SEV-SNP", "dstack/sev_snp_attestation.bin", "sev-snp"],
    ["SEV-SNP with chain", "dstack/sev-snp-attestation.json", "sev-snp"],
    ["Nitro", "dstack/nitro_attestation.bin", "nitro-enclave"],
  ] as const
) {
  vectorTest(`the captured ${what} container is read and written byte for byte`, () => {
    const bytes = file.endsWith(".json")
      ? fromHex((JSON.parse(vectorText(file)) as { attestation: string }).attestation)
      : vectorBytes(file);
    const attestation = decodeAttestation(bytes);
    assert.equal(attestation.platform.kind, kind);
    assert.deepEqual(encodeAttestationV0(attestation), bytes);
    assert.deepEqual(decodeAttestation(encodeAttestationV1(attestation)), attestation);
    assert.throws(() => decodeAttestation(concatBytes(bytes, Uint8Array.of(0))), {
      code: "input/malformed",
    });
    for (let n = 1; n < bytes.length; n += 97) {
      assert.throws(() => decodeAttestation(bytes.slice(0, n)), { code: "input/malformed" });
    }
  });
}

const short = fc.uint8Array({ maxLength: 12 });
const text = fc.string({ unit: "binary", maxLength: 8 });
const u32 = fc.nat(0xffffffff);
const runtimeEvent = fc.record({
  event: text,
  payload: short,
  version: fc.constantFrom<1 | 2>(1, 2),
});
const tdxEvent = fc.record({
  imr: u32,
  eventType: u32,
  digest: short,
  event: text,
  payload: short,
  version: fc.constantFrom<1 | 2>(1, 2),
});
const tpmQuote = fc.record({
  message: short,
  signature: short,
  pcrValues: fc.array(fc.record({ index: u32, algorithm: text, value: short }), { maxLength: 2 }),
  akCert: short,
  platform: fc.constantFrom(
    "dstack" as const,
    "gcp" as const,
    "nitroenclave" as const,
    "aws-ec2" as const,
  ),
  eventLog: fc.array(fc.record({ pcrIndex: u32, digest: short }), { maxLength: 2 }),
});
const eventLog = fc.array(tdxEvent, { maxLength: 2 });
const platform: fc.Arbitrary<Attestation["platform"]> = fc.oneof(
  fc.record({ kind: fc.constant("tdx" as const), quote: short, eventLog }),
  fc.record({ kind: fc.constant("gcp-tdx" as const), quote: short, eventLog, tpmQuote }),
  fc.record({ kind: fc.constant("nitro-enclave" as const), nsmQuote: short }),
  fc.record({ kind: fc.constant("aws-nitro-tpm" as const), attestationDoc: short }),
  fc.record({
    kind: fc.constant("sev-snp" as const),
    report: short,
    certChain: fc.array(short, { maxLength: 2 }),
    mrConfig: text,
  }),
);
const common = {
  reportData: fc.uint8Array({ minLength: 64, maxLength: 64 }),
  runtimeEvents: fc.array(runtimeEvent, { maxLength: 2 }),
  config: text,
};
const stack: fc.Arbitrary<Attestation["stack"]> = fc.oneof(
  fc.record({ kind: fc.constant("dstack" as const), ...common }),
  fc.record({ kind: fc.constant("dstack-pod" as const), ...common, reportDataPayload: text }),
);
const attestations: fc.Arbitrary<Attestation> = fc.record({ platform, stack });

test("every attestation survives its container, V0 only where that loses nothing", () => {
  fc.assert(fc.property(attestations, (attestation) => {
    const bytes = encodeAttestation(attestation);
    assert.equal(bytes[0] === 0, fitsV0(attestation));
    const plain = JSON.parse(JSON.stringify(attestation)) as unknown;
    assert.deepEqual(JSON.parse(JSON.stringify(decodeAttestation(bytes))), plain);
  }));
});

test("V0 refuses to lose a digest version or a pod's payload", () => {
  const v2 = { event: "x", payload: NONE, version: 2 } as const;
  const withV2 = { ...EMPTY_TDX, stack: { ...EMPTY_TDX.stack, runtimeEvents: [v2] } };
  assert.throws(() => encodeAttestationV0(withV2), TypeError);
  const pod = { ...EMPTY_TDX, stack: { ...EMPTY_TDX.stack, kind: "dstack-pod" as const } };
  assert.throws(() => encodeAttestationV0(pod), TypeError);
});

test("V1 writes plain vectors as arrays of integers and hex members as bin", () => {
  const event = {
    imr: 3,
    eventType: 134217729,
    digest: NONE,
    event: "app-id",
    payload: Uint8Array.of(7),
    version: 2,
  } as const;
  const container = decodeMsgpack(
    encodeAttestation({
      ...EMPTY_TDX,
      platform: { kind: "tdx", quote: Uint8Array.of(1, 200), eventLog: [event] },
    }),
    "test",
    4096,
  ) as { [key: string]: MsgpackValue };
  assert.deepEqual(Object.keys(container), ["version", "platform", "stack"]);
  assert.deepEqual(container["platform"], {
    kind: "tdx",
    data: {
      quote: [1, 200],
      event_log: [{
        imr: 3,
        event_type: 134217729,
        digest: NONE,
        event: "app-id",
        event_payload: Uint8Array.of(7),
        version: 2,
      }],
    },
  });
});

test("V1 reads bytes as bin, as integers and as hex text", () => {
  const container = (quote: MsgpackValue) =>
    encodeMsgpack({
      version: 1,
      platform: { kind: "tdx", data: { quote, event_log: [] } },
      stack: {
        kind: "dstack",
        data: { report_data: new Uint8Array(64), runtime_events: [], config: "" },
      },
    });
  for (const quote of [Uint8Array.of(1, 2), [1, 2], "0102"]) {
    const { platform } = decodeAttestation(container(quote));
    assert.ok(platform.kind === "tdx");
    assert.deepEqual(platform.quote, Uint8Array.of(1, 2));
  }
  for (const quote of [null, 5, [256], [-1], ["a"], "0"]) {
    assert.throws(() => decodeAttestation(container(quote)), { code: "input/malformed" });
  }
});

const V1 = { version: 1, platform: null, stack: null };
for (
  const [what, bytes, code] of [
    ["no bytes", NONE, "input/malformed"],
    ["an unknown first byte", Uint8Array.of(1), "input/unsupported"],
    ["an unknown platform", Uint8Array.of(0, 5), "input/malformed"],
    ["a vector longer than the input", fromHex("0000feffffff"), "input/malformed"],
    ["a million events", fromHex("00000002093d00"), "input/malformed"],
    ["an unknown V1 version", encodeMsgpack({ ...V1, version: 2 }), "input/unsupported"],
    ["an unknown V1 member", encodeMsgpack({ ...V1, more: 1 }), "input/malformed"],
    ["a V1 container without platform", encodeMsgpack(V1), "input/malformed"],
    ["too many bytes", new Uint8Array(10 * 1024 * 1024 + 1), "input/too-large"],
  ] as const
) {
  test(`decodeAttestation() refuses ${what}`, () => {
    assert.throws(() => decodeAttestation(bytes), { code });
  });
}

const GCP: Attestation = {
  platform: {
    kind: "gcp-tdx",
    quote: Uint8Array.of(1, 2),
    eventLog: [],
    tpmQuote: {
      message: Uint8Array.of(3),
      signature: NONE,
      pcrValues: [{ index: 14, algorithm: "sha256", value: new Uint8Array(32) }],
      akCert: Uint8Array.of(4),
      platform: "gcp",
      eventLog: [{ pcrIndex: 2, digest: new Uint8Array(32) }],
    },
  },
  stack: {
    kind: "dstack",
    reportData: new Uint8Array(64),
    runtimeEvents: [{ event: "app-id", payload: new Uint8Array(20), version: 1 }],
    config: "{}",
  },
};
parserProperty("decodeAttestation() of V0", decodeAttestation, () => encodeAttestationV0(GCP));
parserProperty("decodeAttestation() of V1", decodeAttestation, () => encodeAttestationV1(GCP));

test("stripping keeps what lite verification and RTMR3 need", () => {
  const event = (imr: number, eventType: number, payload: string) => ({
    imr,
    eventType,
    digest: new Uint8Array(48).fill(1),
    event: "",
    payload: utf8(payload),
    version: 1 as const,
  });
  const log = [
    event(0, 0x8000000b, "hob"),
    event(0, 10, "ACPI DATA"),
    event(0, 10, "other"),
    event(1, 4, "x"),
    event(3, 0x08000001, "payload"),
  ];
  const of = (kind: "tdx" | "gcp-tdx") =>
    stripAttestation({
      ...EMPTY_TDX,
      platform: { kind, quote: NONE, eventLog: log } as Attestation["platform"],
    }).platform as unknown as { eventLog: typeof log };
  const shape = (events: typeof log) =>
    events.map(({ imr, digest, payload }) => [imr, digest.length, payload.length]);
  assert.deepEqual(shape(of("tdx").eventLog), [[0, 48, 9], [3, 0, 7]]);
  assert.deepEqual(shape(of("gcp-tdx").eventLog), [[3, 0, 7]]);
});
