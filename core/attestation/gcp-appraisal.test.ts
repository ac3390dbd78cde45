import assert from "node:assert/strict";
import { createSign, generateKeyPairSync } from "node:crypto";
import { test } from "node:test";
import { sha256 } from "@noble/hashes/sha2.js";
import { simulatedCvm } from "../../tests/simulated-cvm.ts";
import { ByteWriter } from "../bytes/byte-writer.ts";
import { concatBytes, fromHex, toBase64, toHex, utf8 } from "../bytes/bytes.ts";
import { signP256 } from "../crypto/p256.ts";
import { cborMap, encodeCbor } from "../encoding/cbor.ts";
import { DER, der, derOid } from "../encoding/der.ts";
import type { ReasonCode } from "../errors/refusal.ts";
import { replayDigests, replayRuntimeEvents } from "../event-log/replay.ts";
import { rawSignature } from "../x509/ecdsa.ts";
import { buildX509Certificate, type X509Authority, x509Name } from "../x509/x509-builder.ts";
import { type AppraisalInput, appraise } from "./appraise.ts";
import type { Attestation, TpmQuote } from "./attestation.ts";
import { parseTrustAnchor } from "./trust-anchor.ts";
import type { CheckId, Verdict } from "./verdict.ts";
import { decodeAttestation, encodeAttestation } from "./versioned-attestation.ts";

const NOW = new Date("2026-06-01T00:00:00Z");
const DAY = 86_400;
const seconds = NOW.getTime() / 1000;
const validity = { notBefore: seconds - DAY, notAfter: seconds + DAY };
const authority = (name: string, key: number): X509Authority => ({
  name: x509Name("Test", name),
  key: new Uint8Array(32).fill(key),
});
const ROOT = authority("EK/AK root", 1);
const CA = authority("EK/AK intermediate", 2);
const AK = authority("AK", 3);
const certificate = (spec: Partial<Parameters<typeof buildX509Certificate>[0]>) =>
  buildX509Certificate({ serial: 5n, issuer: CA, subject: AK, ...validity, ...spec });
const usage = (oid: string) => ["2.5.29.37", der(DER.sequence, derOid(oid))] as const;
const EK_USAGE = usage("2.23.133.8.1");
const root = certificate({
  issuer: ROOT,
  subject: ROOT,
  caPathLength: 2,
  extensions: [EK_USAGE],
});
const intermediate = certificate({
  issuer: ROOT,
  subject: CA,
  caPathLength: 0,
  extensions: [EK_USAGE],
});

const digest = (text: string) => sha256(utf8(text));
const UKI = digest("unified kernel image");
const document = encodeCbor(cborMap({ version: 1, uki_auth: UKI }));
const checksumFile = utf8(`${toHex(sha256(document))}  measurement.gcp.cbor\n`);
const config = JSON.stringify({
  os_image_hash: toHex(sha256(checksumFile)),
  gcp_measurement: { checksum_file: toBase64(checksumFile), measurement: toBase64(document) },
});

// A TD whose host binds no configuration, as Google's.
const cvm = simulatedCvm({ mrConfigId: new Uint8Array(48) });
const td = cvm.attestation.platform;
assert.ok(td.kind === "tdx");
const events = cvm.attestation.stack.runtimeEvents;

const FIRMWARE = fromHex("0cca9ec161b09288802e5a112255d21340ed5b797f5fe29cecccfd8f67b9f802");
const PCR2_LOG = [digest("separator"), digest("partitions"), UKI];

interface Tpm {
  readonly pcrs?: readonly (readonly [number, Uint8Array])[];
  readonly eventLog?: TpmQuote["eventLog"];
  readonly extraData?: Uint8Array;
  readonly akCert?: Uint8Array;
  /** TPM_ALG_ID of the selection. */
  readonly bank?: number;
  readonly algorithm?: string;
  readonly signature?: (message: Uint8Array) => Uint8Array;
  readonly claimed?: TpmQuote["pcrValues"];
}

const standardPcrs = [
  [0, FIRMWARE],
  [2, replayDigests(PCR2_LOG, "sha256")],
  [14, replayRuntimeEvents(events, { hash: "sha256" })],
] as const;

function tpmQuote(spec: Tpm = {}): TpmQuote {
  const pcrs = spec.pcrs ?? standardPcrs;
  const bitmap = new Uint8Array(3);
  for (const [index] of pcrs) bitmap[index >> 3]! |= 1 << (index & 7);
  const extraData = spec.extraData ?? sha256((td as { quote: Uint8Array }).quote);
  const pcrDigest = sha256(concatBytes(...pcrs.map(([, value]) => value)));
  const message = new ByteWriter()
    .u32be(0xff544347).u16be(0x8018)
    .u16be(0)
    .u16be(extraData.length).bytes(extraData)
    .zeros(16).u8(1).zeros(8)
    .u32be(1).u16be(spec.bank ?? 0x000b).u8(3).bytes(bitmap)
    .u16be(pcrDigest.length).bytes(pcrDigest)
    .finish();
  return {
    message,
    signature: (spec.signature ?? ecdsa)(message),
    pcrValues: spec.claimed ??
      pcrs.map(([index, value]) => ({ index, algorithm: spec.algorithm ?? "sha256", value })),
    akCert: spec.akCert ?? certificate({}),
    platform: "gcp",
    eventLog: spec.eventLog ?? PCR2_LOG.map((one) => ({ pcrIndex: 2, digest: one })),
  };
}

function ecdsa(message: Uint8Array, key = AK.key): Uint8Array {
  const raw = rawSignature(signP256(key, message), "P-256");
  return new ByteWriter().u16be(0x0018).u16be(0x000b)
    .u16be(32).bytes(raw.subarray(0, 32)).u16be(32).bytes(raw.subarray(32)).finish();
}

function attestationOf(quote: TpmQuote, stack: Partial<Attestation["stack"]> = {}): Attestation {
  assert.ok(td.kind === "tdx");
  const eventLog = td.eventLog.filter(({ imr }) => imr === 3);
  return {
    platform: { kind: "gcp-tdx", quote: td.quote, eventLog, tpmQuote: quote },
    stack: { ...cvm.attestation.stack, config, ...stack },
  };
}

function input(spec: Tpm = {}, changes: Partial<AppraisalInput> = {}): AppraisalInput {
  return {
    attestation: attestationOf(tpmQuote(spec)),
    collateral: cvm.platform.collateral(NOW),
    trustAnchors: [
      { ...cvm.trustAnchor, vouchesFor: ["intel"] },
      parseTrustAnchor("own TPM root", root, { vouchesFor: ["gcp-tpm"] }),
    ],
    vendorDocuments: { certificates: [intermediate] },
    now: NOW,
    ...changes,
  };
}
const codeOf = async (spec: Tpm, changes: Partial<AppraisalInput> = {}) =>
  (await appraise(input(spec, changes))).reason?.code;
const resultOf = (verdict: Verdict, id: CheckId) =>
  verdict.checks.find((check) => check.id === id)!.result;

test("a TD of Google Cloud is accepted by its quote and its TPM's", async () => {
  const verdict = await appraise(input());
  assert.equal(verdict.reason, null);
  assert.equal(verdict.tee, "dstack-gcp-tdx");
  assert.equal(verdict.simulated, true);
  assert.deepEqual(verdict.trustAnchor, {
    name: "simulated and own TPM root",
    simulated: true,
  });
  for (const id of ["tpm-quote", "event-log-replay", "launch-events", "os-image"] as const) {
    assert.equal(resultOf(verdict, id), "passed", id);
  }
  assert.equal(resultOf(verdict, "mr-config-id"), "not-applicable");
  // spec attestation.md 3.7
  const { mrSystem, mrAggregated, osImageHash } = verdict.identity!;
  const provider = sha256(utf8('{"name":"kms","id":"3059"}'));
  assert.equal(mrSystem, toHex(sha256(concatBytes(sha256(checksumFile), provider))));
  assert.equal(
    mrAggregated,
    toHex(sha256(concatBytes(...standardPcrs.map(([, value]) => value)))),
  );
  assert.equal(osImageHash, toHex(sha256(checksumFile)));
  assert.equal(verdict.measurements!["pcr0"], toHex(FIRMWARE));
  assert.equal(verdict.measurements!["mr_td"]!.length, 96);
});

test("both containers carry it and give the same verdict", async () => {
  const plain = attestationOf(tpmQuote());
  const decoded = decodeAttestation(encodeAttestation(plain));
  const verdicts = [plain, decoded].map((attestation) => appraise(input({}, { attestation })));
  const [one, other] = await Promise.all(verdicts);
  assert.deepEqual(other, one);
});

test("an attestation key of RSA signs as well", async () => {
  const { privateKey, publicKey } = generateKeyPairSync("rsa", { modulusLength: 2048 });
  const subjectSpki = new Uint8Array(publicKey.export({ type: "spki", format: "der" }));
  const rsassa = (message: Uint8Array) => {
    const signature = new Uint8Array(createSign("sha256").update(message).sign(privateKey));
    return new ByteWriter().u16be(0x0014).u16be(0x000b).u16be(signature.length).bytes(signature)
      .finish();
  };
  const akCert = certificate({ subjectSpki });
  assert.equal(await codeOf({ akCert, signature: rsassa }), undefined);
  const other = (message: Uint8Array) => rsassa(concatBytes(message, Uint8Array.of(0)));
  assert.equal(await codeOf({ akCert, signature: other }), "quote-signature-invalid");
  assert.equal(await codeOf({ akCert }), "quote-signature-invalid");
  assert.equal(await codeOf({ signature: rsassa }), "quote-signature-invalid");
});

const [PCR0, PCR2, PCR14] = standardPcrs;
const value = (byte: number) => new Uint8Array(32).fill(byte);
const refusals: readonly (readonly [string, ReasonCode, Tpm])[] = [
  ["a quote about another TD", "tpm-quote-unbound", { extraData: value(1) }],
  ["no PCR0", "tpm-quote-mismatch", { pcrs: [PCR2, PCR14] }],
  ["no PCR2", "tpm-quote-mismatch", { pcrs: [PCR0, PCR14], eventLog: [] }],
  ["no PCR14", "tpm-quote-mismatch", { pcrs: [PCR0, PCR2] }],
  ["no register", "tpm-quote-mismatch", { pcrs: [] }],
  ["values it did not quote", "tpm-quote-mismatch", {
    claimed: standardPcrs.map(([index]) => ({ index, algorithm: "sha256", value: value(1) })),
  }],
  ["values in another order", "tpm-quote-mismatch", {
    claimed: standardPcrs.toReversed().map(([index, one]) => ({
      index,
      algorithm: "sha256",
      value: one,
    })),
  }],
  ["a value of another length", "tpm-quote-mismatch", {
    pcrs: [[0, new Uint8Array(48)], PCR2, PCR14],
  }],
  ["registers said to be of SHA-1", "tpm-quote-mismatch", { algorithm: "sha1" }],
  ["registers of SHA-384", "evidence-unsupported", { bank: 0x000c }],
  ["a log that does not replay", "event-log-mismatch", {
    eventLog: [{ pcrIndex: 2, digest: UKI }],
  }],
  ["another kernel", "os-image-register-mismatch", {
    pcrs: [PCR0, [2, replayDigests([UKI, UKI, digest("other")], "sha256")], PCR14],
    eventLog: [UKI, UKI, digest("other")].map((one) => ({ pcrIndex: 2, digest: one })),
  }],
  ["a kernel nobody logged", "os-image-register-mismatch", { eventLog: [] }],
  ["another firmware", "os-image-register-mismatch", { pcrs: [[0, value(1)], PCR2, PCR14] }],
  ["a PCR14 of other events", "event-log-mismatch", { pcrs: [PCR0, PCR2, [14, value(1)]] }],
  ["a signature of another key", "quote-signature-invalid", {
    signature: (message) => ecdsa(message, CA.key),
  }],
  ["a signature that is none", "evidence-malformed", { signature: () => new Uint8Array(4) }],
  ["an attestation key of another issuer", "certificate-signature-invalid", {
    akCert: certificate({ issuer: { ...CA, key: ROOT.key } }),
  }],
  ["an attestation key for servers", "certificate-usage-invalid", {
    akCert: certificate({ extensions: [usage("1.3.6.1.5.5.7.3.1")] }),
  }],
  ["an expired attestation key", "certificate-expired", {
    akCert: certificate({ notAfter: seconds - 1 }),
  }],
  ["a certificate that is none", "certificate-malformed", { akCert: new Uint8Array(9) }],
];
for (const [what, code, spec] of refusals) {
  test(`a TD of Google Cloud is refused for ${what}`, async () => {
    assert.equal(await codeOf(spec), code);
  });
}

test("a TPM quote that failed leaves the image unproven", async () => {
  const verdict = await appraise(input({ extraData: value(1) }));
  assert.equal(resultOf(verdict, "os-image"), "not-checked");
  assert.equal(verdict.outcome, "refused");
});

test("each root vouches for its own part", async () => {
  const [intel, tpm] = input().trustAnchors;
  const without = (name: string) => input().trustAnchors.filter((one) => one.name !== name);
  assert.equal(await codeOf({}, { trustAnchors: without(tpm!.name) }), "certificate-untrusted");
  assert.equal(await codeOf({}, { trustAnchors: without(intel!.name) }), "certificate-untrusted");
  const swapped = [{ ...intel!, vouchesFor: ["gcp-tpm"] as const }, tpm!];
  assert.equal(await codeOf({}, { trustAnchors: swapped }), "certificate-untrusted");
});

test("the issuers of the attestation key are the caller's to bring", async () => {
  assert.equal(await codeOf({}, { vendorDocuments: {} }), "certificate-untrusted");
});

test("a configuration the host did bind is compared all the same", async () => {
  const bound = simulatedCvm({ mrConfigId: fromHex(`01${"99".repeat(32)}${"00".repeat(15)}`) });
  const { platform } = bound.attestation;
  assert.ok(platform.kind === "tdx");
  const quote = { ...tpmQuote({ extraData: sha256(platform.quote) }) };
  const gcp = attestationOf(quote);
  const attestation = {
    ...gcp,
    platform: { ...gcp.platform, quote: platform.quote },
  } as Attestation;
  assert.equal((await appraise(input({}, { attestation }))).reason!.code, "mr-config-id-mismatch");
});
