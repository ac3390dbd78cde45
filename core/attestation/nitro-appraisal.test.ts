import assert from "node:assert/strict";
import { test } from "node:test";
import { p384 } from "@noble/curves/nist.js";
import { sha256, sha384 } from "@noble/hashes/sha2.js";
import { parserProperty } from "../../tests/parser-property.ts";
import { vectorBytes, vectorTest } from "../../tests/vectors.ts";
import { concatBytes, toBase64, toHex, utf8 } from "../bytes/bytes.ts";
import { cborMap, type CborValue, encodeCbor } from "../encoding/cbor.ts";
import { encodeCoseSign1, parseCoseSign1 } from "../encoding/cose.ts";
import { DER, der, derOid } from "../encoding/der.ts";
import type { ReasonCode } from "../errors/refusal.ts";
import { replayRuntimeEvents } from "../event-log/replay.ts";
import type { RuntimeEvent } from "../event-log/runtime-event.ts";
import { parseNitroDocument } from "../nitro/attestation-document.ts";
import {
  buildCrl,
  buildX509Certificate,
  type X509Authority,
  x509Name,
} from "../x509/x509-builder.ts";
import { type AppraisalInput, appraise } from "./appraise.ts";
import type { Attestation } from "./attestation.ts";
import { policyWith } from "./policy.ts";
import { parseTrustAnchor, VENDOR_TRUST_ANCHORS } from "./trust-anchor.ts";
import type { CheckId, Verdict } from "./verdict.ts";
import { decodeAttestation } from "./versioned-attestation.ts";

const resultOf = (verdict: Verdict, id: CheckId) =>
  verdict.checks.find((check) => check.id === id)!.result;

const capture = () => decodeAttestation(vectorBytes("dstack/nitro_attestation.bin"));
const appraiseCapture = (changes: Partial<AppraisalInput> = {}) =>
  appraise({
    attestation: capture(),
    collateral: undefined,
    trustAnchors: VENDOR_TRUST_ANCHORS,
    now: new Date("2025-12-25T16:04:18Z"),
    ...changes,
  });

vectorTest("an enclave of the field is accepted within its hour", async () => {
  const verdict = await appraiseCapture();
  assert.equal(verdict.reason, null);
  assert.equal(verdict.tee, "dstack-nitro-enclave");
  assert.equal(verdict.tcb, null);
  assert.deepEqual(verdict.trustAnchor, { name: "aws-nitro-root-g1", simulated: false });
  assert.match(verdict.measurements!["pcr0"]!, /^eb7d0dab.*f74a$/);
  // spec attestation.md 9.3
  const image = "1894b0b29e94a9db16e88a2914f0923e52bb16c08bf3bb484df786a147e2eb79";
  const { mrSystem, mrAggregated, osImageHash, composeHash, deviceId } = verdict.identity!;
  assert.deepEqual([mrSystem, mrAggregated, osImageHash, composeHash], Array(4).fill(image));
  assert.equal(deviceId, "de7d1b721a1e0632b7cf04edf5032c8ecffa9f9a08492152b926f1a5a7e765d7");
});

vectorTest("the log of an enclave proves nothing: it names no app", async () => {
  assert.equal(capture().stack.runtimeEvents[0]!.event, "app-id");
  const { identity } = await appraiseCapture();
  assert.equal(identity!.appId, "");
  const appId = capture().stack.runtimeEvents[0]!.payload;
  const verdict = await appraiseCapture({ reference: { appId } });
  assert.equal(verdict.reason!.code, "app-id-mismatch");
});

const captureRefusals: readonly (readonly [string, ReasonCode, () => Partial<AppraisalInput>])[] = [
  // Made at 16:04:19.346.
  ["after an hour", "evidence-expired", () => ({ now: new Date("2025-12-25T17:04:20Z") })],
  ["before its certificate", "certificate-not-yet-valid", () => ({
    now: new Date("2025-12-25T15:59:19Z"),
  })],
  ["days later", "certificate-expired", () => ({ now: new Date("2025-12-28T00:00:00Z") })],
  ["under Intel's and AMD's roots", "certificate-untrusted", () => ({
    trustAnchors: VENDOR_TRUST_ANCHORS.filter(({ name }) => !name.startsWith("aws")),
  })],
  ["with another challenge", "report-data-mismatch", () => ({
    expectedReportData: new Uint8Array(64),
  })],
  ["as another image", "os-image-register-mismatch", () => {
    const { platform, stack } = capture();
    const config = JSON.stringify({ os_image_hash: "11".repeat(32) });
    return { attestation: { platform, stack: { ...stack, config } } };
  }],
  ["without naming its image", "os-image-unknown", () => {
    const { platform, stack } = capture();
    return { attestation: { platform, stack: { ...stack, config: "{}" } } };
  }],
  ["with a changed document", "quote-signature-invalid", () => {
    const { platform, stack } = capture();
    assert.ok(platform.kind === "nitro-enclave");
    const nsmQuote = platform.nsmQuote.slice();
    nsmQuote[nsmQuote.length - 111]! ^= 1; // the end of user_data
    return { attestation: { platform: { ...platform, nsmQuote }, stack } };
  }],
  ["as an instance", "evidence-unsupported", () => {
    const { platform, stack } = capture();
    assert.ok(platform.kind === "nitro-enclave");
    const attestationDoc = platform.nsmQuote;
    return { attestation: { platform: { kind: "aws-nitro-tpm", attestationDoc }, stack } };
  }],
];
for (const [what, code, changes] of captureRefusals) {
  vectorTest(`the enclave is refused ${what}`, async () => {
    assert.equal((await appraiseCapture(changes())).reason?.code, code);
  });
}

vectorTest("no flipped bit of a document passes", async () => {
  const { platform, stack } = capture();
  assert.ok(platform.kind === "nitro-enclave");
  for (let at = 0; at < platform.nsmQuote.length; at += 9) {
    const nsmQuote = platform.nsmQuote.slice();
    nsmQuote[at]! ^= 1 << (at % 8);
    const attestation: Attestation = { platform: { ...platform, nsmQuote }, stack };
    assert.equal((await appraiseCapture({ attestation })).outcome, "refused", `${at}`);
  }
});

// A hypervisor of our own.

const NOW = new Date("2026-06-01T00:00:00Z");
const DAY = 86_400;
const authority = (name: string, key: number): X509Authority => ({
  name: x509Name("Test", name),
  key: new Uint8Array(48).fill(key),
  curve: "P-384",
});
const ROOT = authority("root", 1);
const CA = authority("ca", 2);
const LEAF = authority("leaf", 3);
const validity = {
  notBefore: NOW.getTime() / 1000 - DAY,
  notAfter: NOW.getTime() / 1000 + DAY,
};
const certificate = (spec: Partial<Parameters<typeof buildX509Certificate>[0]>) =>
  buildX509Certificate({ serial: 5n, issuer: CA, subject: LEAF, ...validity, ...spec });
const root = certificate({ issuer: ROOT, subject: ROOT, caPathLength: 2, serial: 1n });
const ca = certificate({ issuer: ROOT, subject: CA, caPathLength: 0, serial: 2n });
const leaf = certificate({});
const usage = (oid: string) => ["2.5.29.37", der(DER.sequence, derOid(oid))] as const;

const pcr = (byte: number) => new Uint8Array(48).fill(byte);
const enclavePcrs = new Map([[0, pcr(1)], [1, pcr(2)], [2, pcr(3)]]);
const imageOf = (...values: Uint8Array[]) => sha256(concatBytes(...values));

function members(changes: Readonly<Record<string, CborValue>> = {}): Record<string, CborValue> {
  return {
    module_id: "i-1-enc2",
    digest: "SHA384",
    timestamp: NOW.getTime(),
    pcrs: enclavePcrs,
    certificate: leaf,
    cabundle: [root, ca],
    public_key: null,
    user_data: new Uint8Array(64),
    nonce: null,
    ...changes,
  };
}
const sign = (signed: Uint8Array, key = LEAF.key) => p384.sign(signed, key, { lowS: false });
const documentOf = (changes: Readonly<Record<string, CborValue>> = {}) =>
  encodeCoseSign1(encodeCbor(cborMap(members(changes))), (signed) => sign(signed));

function enclave(document: Uint8Array): AppraisalInput {
  const config = JSON.stringify({ os_image_hash: toHex(imageOf(pcr(1), pcr(2), pcr(3))) });
  return {
    attestation: {
      platform: { kind: "nitro-enclave", nsmQuote: document },
      stack: { kind: "dstack", reportData: new Uint8Array(64), runtimeEvents: [], config },
    },
    collateral: undefined,
    trustAnchors: [parseTrustAnchor("own", root)],
    now: NOW,
  };
}
const codeOf = async (document: Uint8Array, changes: Partial<AppraisalInput> = {}) =>
  (await appraise({ ...enclave(document), ...changes })).reason?.code;

test("an enclave under a root of one's own is accepted, tagged or not", async () => {
  assert.equal(await codeOf(documentOf()), undefined);
  assert.equal(await codeOf(Uint8Array.of(0xd2, ...documentOf())), undefined);
});

const ownRefusals: readonly (readonly [string, ReasonCode, Record<string, CborValue>])[] = [
  ["debug mode", "debug-enabled", {
    pcrs: new Map([[0, pcr(0)], [1, pcr(0)], [2, pcr(0)]]),
  }],
  ["no registers", "debug-enabled", { pcrs: new Map() }],
  ["registers of another length", "evidence-malformed", {
    pcrs: new Map([[0, new Uint8Array(32)]]),
  }],
  ["a register beyond 31", "evidence-malformed", { pcrs: new Map([[32, pcr(1)]]) }],
  ["registers by name", "evidence-malformed", { pcrs: cborMap({ a: pcr(1) }) }],
  ["both kinds of registers", "evidence-malformed", { nitrotpm_pcrs: enclavePcrs }],
  ["another hash", "evidence-malformed", { digest: "SHA256" }],
  ["no module", "evidence-malformed", { module_id: "" }],
  ["no time", "evidence-malformed", { timestamp: null }],
  ["no CA bundle", "evidence-malformed", { cabundle: [] }],
  ["a bundle that is none", "evidence-malformed", { cabundle: ["root"] }],
  ["an endless bundle", "evidence-malformed", { cabundle: Array<Uint8Array>(9).fill(ca) }],
  ["no report data", "report-data-mismatch", { user_data: null }],
  ["short report data", "report-data-mismatch", { user_data: new Uint8Array(32) }],
  ["a bundle without its intermediate", "certificate-untrusted", { cabundle: [root] }],
  ["a bundle with a root of its own", "certificate-untrusted", {
    cabundle: [certificate({ issuer: LEAF, subject: LEAF, caPathLength: 2 }), ca],
  }],
  ["a leaf for servers", "certificate-usage-invalid", {
    certificate: certificate({ extensions: [usage("1.3.6.1.5.5.7.3.1")] }),
  }],
  ["a CA as leaf", "certificate-usage-invalid", { certificate: ca, cabundle: [root] }],
  ["a leaf of another key", "quote-signature-invalid", {
    certificate: certificate({ subject: { ...LEAF, key: pcr(9) } }),
  }],
  ["a leaf of P-256", "certificate-usage-invalid", {
    certificate: certificate({
      subject: { name: LEAF.name, key: new Uint8Array(32).fill(3) },
    }),
  }],
  ["an expired leaf", "certificate-expired", {
    certificate: certificate({ notAfter: NOW.getTime() / 1000 - 1 }),
  }],
];
for (const [what, code, changes] of ownRefusals) {
  test(`a document with ${what} is refused`, async () => {
    assert.equal(await codeOf(documentOf(changes)), code);
  });
}

test("a leaf for clients passes, and the registers' image counts", async () => {
  const forClients = certificate({ extensions: [usage("1.3.6.1.5.5.7.3.2")] });
  assert.equal(await codeOf(documentOf({ certificate: forClients })), undefined);
  const pcrs = new Map([[0, pcr(1)], [1, pcr(2)], [2, pcr(4)]]);
  assert.equal(await codeOf(documentOf({ pcrs })), "os-image-register-mismatch");
});

test("documents are fresh from 300 s before they were made to an hour after", async () => {
  const at = (seconds: number) => codeOf(documentOf({ timestamp: NOW.getTime() - seconds * 1000 }));
  assert.deepEqual(await Promise.all([-300, -301, 3600, 3601].map(at)), [
    undefined,
    "evidence-not-yet-valid",
    undefined,
    "evidence-expired",
  ]);
});

test("revocation lists count where the caller has them", async () => {
  const crl = (revokedSerials: bigint[]) =>
    buildCrl({
      issuer: CA,
      thisUpdate: validity.notBefore,
      nextUpdate: validity.notAfter,
      revokedSerials,
    });
  const withCrl = (revoked: bigint[]) => ({ vendorDocuments: { crls: [crl(revoked)] } });
  assert.equal(await codeOf(documentOf(), withCrl([])), undefined);
  assert.equal(await codeOf(documentOf(), withCrl([5n])), "certificate-revoked");
  const malformed = { vendorDocuments: { crls: [new Uint8Array(3)] } };
  assert.equal(await codeOf(documentOf(), malformed), "crl-malformed");
});

test("a debug enclave does not pass as an image of zeros", async () => {
  const zeros = new Map([[0, pcr(0)], [1, pcr(0)], [2, pcr(0)]]);
  const input = enclave(documentOf({ pcrs: zeros }));
  const { stack } = input.attestation as Attestation;
  const config = JSON.stringify({ os_image_hash: toHex(imageOf(pcr(0), pcr(0), pcr(0))) });
  const attestation = { ...(input.attestation as Attestation), stack: { ...stack, config } };
  assert.equal((await appraise({ ...input, attestation })).reason!.code, "debug-enabled");
});

const payload = encodeCbor(cborMap(members()));
const header = encodeCbor(new Map([[1, -35]]));
const signed = (protectedHeader: Uint8Array, unprotected: CborValue = new Map()) =>
  encodeCbor([
    protectedHeader,
    unprotected,
    payload,
    sign(encodeCbor(["Signature1", protectedHeader, new Uint8Array(0), payload])),
  ]);
for (
  const [what, bytes, code] of [
    ["another algorithm", signed(encodeCbor(new Map([[1, -7]]))), "input/unsupported"],
    ["no algorithm", signed(encodeCbor(new Map())), "input/unsupported"],
    [
      "critical parameters",
      signed(encodeCbor(new Map<number, CborValue>([[1, -35], [2, [1]]]))),
      "input/unsupported",
    ],
    ["a header that is no map", signed(encodeCbor(1)), "input/malformed"],
    ["an unprotected header", signed(header, new Map([[4, 1]])), "input/malformed"],
    ["three members", encodeCbor([header, new Map(), payload]), "input/malformed"],
    ["a short signature", encodeCbor([header, new Map(), payload, pcr(1)]), "input/malformed"],
    ["another tag", Uint8Array.of(0xd1, ...signed(header)), "input/malformed"],
    ["a tail", Uint8Array.of(...signed(header), 0), "input/malformed"],
  ] as const
) {
  test(`COSE with ${what} is refused`, () => {
    parseCoseSign1(signed(header), "message");
    assert.throws(() => parseCoseSign1(bytes, "message"), { code });
  });
}

// An instance with NitroTPM.

const EVENTS: RuntimeEvent[] = ([
  ["app-id", new Uint8Array(20).fill(0x11)],
  ["compose-hash", new Uint8Array(32).fill(0x22)],
  ["instance-id", new Uint8Array(20).fill(0x33)],
  ["boot-mr-done", new Uint8Array(0)],
  ["key-provider", utf8('{"name":"kms","id":"00"}')],
  ["system-ready", new Uint8Array(0)],
] as const).map(([event, bytes]) => ({ event, payload: bytes, version: 1 }));

const bootPcrs = [pcr(4), pcr(7), pcr(12)] as const;
const awsDocument = encodeCbor(cborMap({ boot_pcr_digest: sha256(concatBytes(...bootPcrs)) }));
const checksumFile = utf8(`${toHex(sha256(awsDocument))}  measurement.aws.cbor\n`);
const awsConfig = JSON.stringify({
  os_image_hash: toHex(sha256(checksumFile)),
  aws_measurement: {
    checksum_file: toBase64(checksumFile),
    measurement: toBase64(awsDocument),
  },
});

function instance(changes: {
  readonly events?: RuntimeEvent[];
  readonly boot?: readonly (readonly [number, Uint8Array])[];
  readonly config?: string;
} = {}): AppraisalInput {
  const nitrotpm_pcrs = new Map<number, CborValue>([
    ...(changes.boot ?? [[4, bootPcrs[0]], [7, bootPcrs[1]], [12, bootPcrs[2]]]),
    [14, replayRuntimeEvents(EVENTS)],
  ]);
  const document = documentOf({ pcrs: null, nitrotpm_pcrs, module_id: "i-1-tpm2" });
  return {
    ...enclave(document),
    attestation: {
      platform: { kind: "aws-nitro-tpm", attestationDoc: document },
      stack: {
        kind: "dstack",
        reportData: new Uint8Array(64),
        runtimeEvents: changes.events ?? EVENTS,
        config: changes.config ?? awsConfig,
      },
    },
  };
}

test("an instance with NitroTPM is accepted by its boot and its log", async () => {
  const verdict = await appraise(instance());
  assert.equal(verdict.reason, null);
  assert.equal(verdict.tee, "dstack-aws-nitro-tpm");
  const identity = verdict.identity!;
  assert.equal(identity.appId, "11".repeat(20));
  assert.equal(identity.keyProvider!.name, "kms");
  assert.equal(identity.deviceId, toHex(sha256(utf8("i-1-tpm2"))));
  // spec attestation.md 3.7
  const provider = sha256(utf8('{"name":"kms","id":"00"}'));
  assert.equal(identity.mrSystem, toHex(sha256(concatBytes(...bootPcrs, provider))));
  const log = replayRuntimeEvents(EVENTS);
  assert.equal(identity.mrAggregated, toHex(sha256(concatBytes(...bootPcrs, log))));
  assert.equal(resultOf(verdict, "event-log-replay"), "passed");
});

test("PCR14 is extended with SHA-384, one digest an event", () => {
  const digest = (event: string, bytes: Uint8Array) =>
    sha384(concatBytes(Uint8Array.of(1, 0, 0, 8), utf8(`:${event}:`), bytes));
  const expected = EVENTS.reduce<Uint8Array>(
    (register, { event, payload: bytes }) => sha384(concatBytes(register, digest(event, bytes))),
    new Uint8Array(48),
  );
  assert.deepEqual(replayRuntimeEvents(EVENTS), expected);
});

for (
  const [what, code, changes] of [
    ["a dropped event", "event-log-mismatch", { events: EVENTS.slice(0, -1) }],
    ["no event at all", "event-log-mismatch", { events: [] }],
    ["another kernel", "os-image-register-mismatch", {
      boot: [[4, pcr(5)], [7, bootPcrs[1]], [12, bootPcrs[2]]],
    }],
    ["a register left out", "os-image-register-mismatch", {
      boot: [[4, concatBytes(bootPcrs[0])], [7, bootPcrs[1]]],
    }],
    ["no document of the image", "os-image-document-malformed", {
      config: JSON.stringify({ os_image_hash: "11".repeat(32) }),
    }],
    ["another image's document", "os-image-document-mismatch", {
      config: awsConfig.replace(toHex(sha256(checksumFile)), "11".repeat(32)),
    }],
  ] as const
) {
  test(`an instance is refused for ${what}`, async () => {
    const input = instance(changes as Parameters<typeof instance>[0]);
    assert.equal((await appraise(input)).reason?.code, code);
  });
}

test("an enclave's document is not an instance's", async () => {
  const { attestation, ...rest } = instance();
  const { stack } = attestation as Attestation;
  const platform = { kind: "aws-nitro-tpm", attestationDoc: documentOf() } as const;
  const verdict = await appraise({ ...rest, attestation: { platform, stack } });
  assert.equal(verdict.reason!.code, "evidence-unsupported");
});

test("a policy that requires a TCB status means TEEs that have one", async () => {
  const verdict = await appraise({
    ...instance(),
    policy: policyWith({ require: ["tcb-status", "report-data"] }),
  });
  assert.equal(resultOf(verdict, "tcb-status"), "not-applicable");
  assert.equal(verdict.reason!.code, "required-check-not-run");
  assert.match(verdict.reason!.detail, /: report-data$/);
});

parserProperty("parseNitroDocument()", parseNitroDocument, () => documentOf());
