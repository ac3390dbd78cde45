import assert from "node:assert/strict";
import { test } from "node:test";
import { p384 } from "@noble/curves/nist.js";
import { vectorBytes, vectorTest, vectorText } from "../../tests/vectors.ts";
import { concatBytes, fromHex, toHex, utf8 } from "../bytes/bytes.ts";
import { mrConfigV3Hash } from "../compose/mr-config.ts";
import { DER, der, derInteger } from "../encoding/der.ts";
import { decodePem } from "../encoding/pem.ts";
import type { ReasonCode } from "../errors/refusal.ts";
import type { SnpProduct } from "../sev-snp/product.ts";
import {
  buildCrl,
  buildX509Certificate,
  type X509Authority,
  x509Name,
} from "../x509/x509-builder.ts";
import { type AppraisalInput, appraise } from "./appraise.ts";
import type { Attestation, SevSnpEvidence } from "./attestation.ts";
import { policyWith } from "./policy.ts";
import { type Endorsement, parseTrustAnchor, VENDOR_TRUST_ANCHORS } from "./trust-anchor.ts";
import type { CheckId, Verdict } from "./verdict.ts";
import { decodeAttestation } from "./versioned-attestation.ts";

// The capture's VCEK is valid from 2026-06-17 on.
const AT = new Date("2026-08-01T00:00:00Z");
const OUT_OF_DATE = policyWith({ allowedTcbStatuses: ["UpToDate", "OutOfDate"] });

const capture = () => {
  const { attestation } = JSON.parse(vectorText("dstack/sev-snp-attestation.json")) as {
    attestation: string;
  };
  return decodeAttestation(fromHex(attestation));
};
const snpOf = ({ platform }: Attestation): SevSnpEvidence => {
  assert.ok(platform.kind === "sev-snp");
  return platform;
};
const appraiseCapture = (changes: Partial<AppraisalInput> = {}) =>
  appraise({
    attestation: capture(),
    collateral: undefined,
    trustAnchors: VENDOR_TRUST_ANCHORS,
    policy: OUT_OF_DATE,
    now: AT,
    ...changes,
  });
const resultOf = (verdict: Verdict, id: CheckId) =>
  verdict.checks.find((check) => check.id === id)!.result;
const withPlatform = (attestation: Attestation, changes: Partial<SevSnpEvidence>): Attestation => ({
  ...attestation,
  platform: { ...snpOf(attestation), ...changes },
});
const withConfig = (change: (config: Record<string, unknown>) => void): Attestation => {
  const attestation = capture();
  const config = JSON.parse(attestation.stack.config) as Record<string, unknown>;
  change(config);
  return { ...attestation, stack: { ...attestation.stack, config: JSON.stringify(config) } };
};
const changedReport = (offset: number) => {
  const attestation = capture();
  const report = snpOf(attestation).report.slice();
  report[offset]! ^= 1;
  return withPlatform(attestation, { report });
};

vectorTest("an SEV-SNP guest of the field is accepted offline", async () => {
  const verdict = await appraiseCapture();
  assert.equal(verdict.reason, null);
  assert.equal(verdict.tee, "dstack-amd-sev-snp");
  assert.deepEqual(verdict.trustAnchor, { name: "amd-ark-milan", simulated: false });
  const current = { bootloader: 4, tee: 0, snp: 0x18, microcode: 0xd5 };
  assert.deepEqual(verdict.tcb, {
    status: "OutOfDate",
    advisoryIds: [],
    product: "Milan-B0",
    signingKey: "vcek",
    reported: { ...current, snp: 0x17 },
    current,
    committed: current,
    launch: current,
  });
  const identity = verdict.identity!;
  // spec attestation.md 9.3
  assert.equal(
    identity.osImageHash,
    "f69c8e5031ec2b269bbc08839ce02cb98ee255d695626f941f4b37b95946d352",
  );
  assert.equal(identity.appId, "86e59625be93207bc2351c4d1bba20037cec8e16");
  assert.equal(identity.keyProvider!.name, "kms");
  const passed = verdict.checks.filter(({ result }) => result === "passed").map(({ id }) => id);
  assert.deepEqual(passed, [
    "evidence-format",
    "collateral-validity",
    "signature-chain",
    "platform-match",
    "tcb-status",
    "debug-disabled",
    "tee-attributes",
    "os-image",
    "mr-config-id",
    "policy",
  ]);
});

vectorTest("the default policy refuses its TCB, and nothing else", async () => {
  const { policy: _, ...rest } = { policy: OUT_OF_DATE };
  const verdict = await appraise({
    ...rest,
    attestation: capture(),
    collateral: undefined,
    trustAnchors: VENDOR_TRUST_ANCHORS,
    now: AT,
  });
  assert.equal(verdict.reason!.code, "tcb-status-not-allowed");
  const failed = verdict.checks.filter(({ result }) => result === "failed").map(({ id }) => id);
  assert.deepEqual(failed, ["tcb-status", "policy"]);
});

vectorTest("certificates that evidence lacks may come from the caller", async () => {
  const bare = withPlatform(capture(), { certChain: [] });
  const missing = await appraiseCapture({ attestation: bare });
  assert.equal(missing.reason!.code, "endorsement-missing");
  const certificates = ["ask", "vcek"].flatMap((name) =>
    decodePem("CERTIFICATE", vectorText(`dstack/sev_snp_${name}.pem`))
  );
  const verdict = await appraiseCapture({ attestation: bare, vendorDocuments: { certificates } });
  assert.equal(verdict.reason, null);
});

vectorTest("the container without certificates names an image nobody can bind", async () => {
  const certificates = ["ask", "vcek"].flatMap((name) =>
    decodePem("CERTIFICATE", vectorText(`dstack/sev_snp_${name}.pem`))
  );
  const verdict = await appraiseCapture({
    attestation: decodeAttestation(vectorBytes("dstack/sev_snp_attestation.bin")),
    vendorDocuments: { certificates },
  });
  assert.equal(resultOf(verdict, "signature-chain"), "passed");
  assert.equal(resultOf(verdict, "mr-config-id"), "passed");
  assert.equal(verdict.reason!.code, "os-image-document-malformed");
});

const otherBytes = (length: number) => new Uint8Array(length).fill(1);
const captureRefusals: readonly (readonly [string, ReasonCode, () => Partial<AppraisalInput>])[] = [
  ["a changed measurement", "quote-signature-invalid", () => ({
    attestation: changedReport(0x90),
  })],
  ["a changed signature", "quote-signature-invalid", () => ({ attestation: changedReport(0x2a0) })],
  ["a report cut short", "evidence-malformed", () => {
    const attestation = capture();
    return {
      attestation: withPlatform(attestation, { report: snpOf(attestation).report.slice(1) }),
    };
  }],
  ["a changed ASK", "certificate-signature-invalid", () => {
    const attestation = capture();
    const [ask, vcek] = snpOf(attestation).certChain;
    const [bytes] = decodePem("CERTIFICATE", new TextDecoder().decode(ask));
    const changed = bytes!.slice();
    changed[changed.length - 20]! ^= 1;
    return { attestation: withPlatform(attestation, { certChain: [changed, vcek!] }) };
  }],
  ["Genoa's root alone", "certificate-untrusted", () => ({
    trustAnchors: VENDOR_TRUST_ANCHORS.filter(({ name }) => name === "amd-ark-genoa"),
  })],
  ["a time before the VCEK", "certificate-not-yet-valid", () => ({
    now: new Date("2026-06-01T00:00:00Z"),
  })],
  ["a time after the VCEK", "certificate-expired", () => ({
    now: new Date("2034-01-01T00:00:00Z"),
  })],
  ["another challenge", "report-data-mismatch", () => ({ expectedReportData: otherBytes(64) })],
  ["report data it does not bind", "report-data-mismatch", () => {
    const attestation = capture();
    const stack = { ...attestation.stack, reportData: otherBytes(64) };
    return { attestation: { ...attestation, stack } };
  }],
  ["another launch configuration", "mr-config-id-mismatch", () => {
    const attestation = capture();
    const mrConfig = snpOf(attestation).mrConfig.replace('"kms"', '"tpm"');
    return { attestation: withPlatform(attestation, { mrConfig }) };
  }],
  ["no launch configuration", "mr-config-id-missing", () => ({
    attestation: withPlatform(capture(), { mrConfig: "" }),
  })],
  ["a VM configuration of another launch", "mr-config-id-mismatch", () => ({
    attestation: withConfig((config) => config["mr_config"] = "{}"),
  })],
  ["another image hash", "os-image-document-mismatch", () => ({
    attestation: withConfig((config) => config["os_image_hash"] = "11".repeat(32)),
  })],
  ["another number of processors", "os-image-register-mismatch", () => ({
    attestation: withConfig((config) => {
      const text = config["sev_snp_measurement"] as string;
      config["sev_snp_measurement"] = text.replace('"vcpus":2', '"vcpus":3');
    }),
  })],
  ["no measurement document", "os-image-document-malformed", () => ({
    attestation: withConfig((config) => delete config["sev_snp_measurement"]),
  })],
  ["an image the caller does not allow", "os-image-not-allowed", () => ({
    reference: { osImageHashes: [otherBytes(32)] },
  })],
  ["another app", "app-id-mismatch", () => ({ reference: { appId: otherBytes(20) } })],
  ["another compose file", "compose-hash-mismatch", () => ({
    reference: { composeHash: otherBytes(32) },
  })],
  ["another instance", "instance-id-mismatch", () => ({
    reference: { instanceId: otherBytes(20) },
  })],
  ["another key provider", "key-provider-mismatch", () => ({
    reference: { keyProvider: { name: "local-sgx" } },
  })],
];
for (const [what, code, changes] of captureRefusals) {
  vectorTest(`an SEV-SNP guest is refused for ${what}`, async () => {
    const verdict = await appraiseCapture(changes());
    assert.equal(verdict.reason?.code, code);
  });
}

vectorTest(
  "no flipped bit of a report, a certificate or a launch configuration passes",
  async () => {
    const attestation = capture();
    const { report, certChain, mrConfig } = snpOf(attestation);
    const flipped = (bytes: Uint8Array, at: number) => {
      const copy = bytes.slice();
      copy[at]! ^= 1 << (at % 8);
      return copy;
    };
    const mutants: Partial<SevSnpEvidence>[] = [];
    for (let at = 0; at < report.length; at += 5) mutants.push({ report: flipped(report, at) });
    for (const [i, certificate] of certChain.entries()) {
      for (let at = 0; at < certificate.length; at += 13) {
        mutants.push({ certChain: certChain.with(i, flipped(certificate, at)) });
      }
    }
    for (let at = 0; at < mrConfig.length; at += 7) {
      const text = `${mrConfig.slice(0, at)}${String.fromCharCode(mrConfig.charCodeAt(at) ^ 1)}`;
      mutants.push({ mrConfig: text + mrConfig.slice(at + 1) });
    }
    for (const mutant of mutants) {
      const verdict = await appraiseCapture({ attestation: withPlatform(attestation, mutant) });
      assert.equal(verdict.outcome, "refused", JSON.stringify(Object.keys(mutant)));
    }
  },
);

// A vendor of our own: P-384 throughout, and reports signed with its keys.

const NOW = new Date("2026-06-01T00:00:00Z");
const DAY = 86_400;
const authority = (name: string, key: number): X509Authority => ({
  name: x509Name("Test", name),
  key: new Uint8Array(48).fill(key),
  curve: "P-384",
});
const ARK = authority("ARK", 1);
const ASK = authority("ASK", 2);
const KEY = authority("KEY", 3);
const CHIP = new Uint8Array(64).fill(0x33);
const MR_CONFIG = JSON.stringify({
  app_id: "11".repeat(20),
  compose_hash: "22".repeat(32),
  key_provider: "none",
  version: 3,
});
const ARC = "1.3.6.1.4.1.3704.1";
const validity = {
  notBefore: NOW.getTime() / 1000 - DAY,
  notAfter: NOW.getTime() / 1000 + DAY,
};

interface OwnReport {
  readonly product?: SnpProduct;
  readonly productName?: string;
  /** Bytes written over the report before it is signed: offset and value. */
  readonly patch?: readonly (readonly [offset: number, value: number])[];
  readonly kind?: "vcek" | "vlek";
  readonly chipId?: Uint8Array;
  /** TCB of the certificate: boot loader, tee, snp, microcode, and Turin's FMC. */
  readonly certifiedTcb?: readonly number[];
  readonly rootVouchesFor?: readonly Endorsement[];
  readonly revoked?: boolean;
  readonly askUsage?: Partial<Parameters<typeof buildX509Certificate>[0]>;
}

/** TCB_VERSION 01 02 .. 03 04 of that product, which every member of the report has. */
const TCB = {
  Milan: "0102000000000304",
  Genoa: "0102000000000304",
  Turin: "0501020300000004",
} as const;
const CPU = { Milan: [0x19, 0x01], Genoa: [0x19, 0x11], Turin: [0x1a, 0x02] } as const;

function ownInput(spec: OwnReport): AppraisalInput {
  const { product = "Milan", kind = "vcek" } = spec;
  const report = new Uint8Array(1184);
  report.set([3], 0);
  report.set([0, 0, 0x03], 8);
  report.set([1], 0x34);
  report.set([kind === "vlek" ? 1 << 2 : 0], 0x48);
  report.set(new Uint8Array(48).fill(0x44), 0x90);
  report.set(mrConfigV3Hash(utf8(MR_CONFIG)), 0xc0);
  for (const at of [0x38, 0x180, 0x1e0, 0x1f0]) report.set(fromHex(TCB[product]), at);
  report.set(CPU[product], 0x188);
  const chip = product === "Turin" ? concatBytes(CHIP.slice(0, 8), new Uint8Array(56)) : CHIP;
  report.set(chip, 0x1a0);
  for (const [offset, value] of spec.patch ?? []) report[offset] = value;
  const signature = p384.sign(report.subarray(0, 0x2a0), KEY.key, { lowS: false });
  report.set(signature.slice(0, 48).reverse(), 0x2a0);
  report.set(signature.slice(48).reverse(), 0x2a0 + 72);

  const [bootloader, tee, snp, microcode, fmc] = spec.certifiedTcb ?? [1, 2, 3, 4, 5];
  const number = (value: number | undefined) => derInteger(BigInt(value!));
  const key = buildX509Certificate({
    serial: 0n,
    issuer: ASK,
    subject: KEY,
    ...validity,
    extensions: [
      [`${ARC}.2`, der(DER.ia5String, utf8(spec.productName ?? `${product}-B0`))],
      [`${ARC}.3.1`, number(bootloader)],
      [`${ARC}.3.2`, number(tee)],
      [`${ARC}.3.3`, number(snp)],
      [`${ARC}.3.8`, number(microcode)],
      ...(product === "Turin" ? [[`${ARC}.3.9`, number(fmc)] as const] : []),
      kind === "vcek"
        ? [`${ARC}.4`, spec.chipId ?? (product === "Turin" ? CHIP.slice(0, 8) : CHIP)]
        : [`${ARC}.5`, der(DER.ia5String, utf8("cloud"))],
    ],
  });
  const ca = (subject: X509Authority, caPathLength: number) =>
    buildX509Certificate({ serial: 1n, issuer: ARK, subject, caPathLength, ...validity });
  const ask = spec.askUsage
    ? buildX509Certificate({ serial: 1n, issuer: ARK, subject: ASK, ...validity, ...spec.askUsage })
    : ca(ASK, 0);
  const options = spec.rootVouchesFor ? { vouchesFor: spec.rootVouchesFor } : {};
  return {
    attestation: {
      platform: { kind: "sev-snp", report, certChain: [key, ask], mrConfig: MR_CONFIG },
      stack: { kind: "dstack", reportData: new Uint8Array(64), runtimeEvents: [], config: "{}" },
    },
    collateral: undefined,
    trustAnchors: [parseTrustAnchor("own", ca(ARK, 1), options)],
    now: NOW,
    policy: policyWith({
      required: ["signature-chain", "platform-match", "tcb-status", "tee-attributes"],
    }),
    ...(spec.revoked === undefined ? {} : {
      vendorDocuments: {
        crls: [buildCrl({
          issuer: ARK,
          thisUpdate: validity.notBefore,
          nextUpdate: validity.notAfter,
          revokedSerials: spec.revoked ? [1n] : [],
        })],
      },
    }),
  };
}
/** The checks that failed before the image, which these reports do not name. */
async function appraiseOwn(spec: OwnReport, changes: Partial<AppraisalInput> = {}) {
  const verdict = await appraise({ ...ownInput(spec), ...changes });
  const reason = verdict.reason?.check === "os-image" ? undefined : verdict.reason?.code;
  return { verdict, reason };
}

for (const product of ["Milan", "Genoa", "Turin"] as const) {
  test(`a report of ${product} under its own root has nothing wrong but its image`, async () => {
    const { verdict, reason } = await appraiseOwn({
      product,
      rootVouchesFor: [`amd-${product.toLowerCase() as Lowercase<SnpProduct>}`],
    });
    assert.equal(reason, undefined);
    assert.equal(resultOf(verdict, "platform-match"), "passed");
    assert.equal(verdict.tcb!.status, "UpToDate");
    assert.equal(verdict.identity!.appId, "11".repeat(20));
    assert.equal(resultOf(verdict, "revocation"), "not-checked");
  });
}

const POLICY = 8;
const PLATFORM = 0x40;
const ownRefusals: readonly (readonly [string, ReasonCode, OwnReport])[] = [
  ["a debug policy", "debug-enabled", { patch: [[POLICY + 2, 0x0b]] }],
  ["a migration agent", "attributes-not-allowed", { patch: [[POLICY + 2, 0x07]] }],
  ["a reserved bit of the policy", "attributes-not-allowed", { patch: [[POLICY + 7, 1]] }],
  ["a cleared reserved bit", "attributes-not-allowed", { patch: [[POLICY + 2, 0x01]] }],
  ["SMT against the policy", "attributes-not-allowed", {
    patch: [[POLICY + 2, 0x02], [PLATFORM, 1]],
  }],
  ["RAPL against the policy", "attributes-not-allowed", { patch: [[POLICY + 2, 0x83]] }],
  ["no ciphertext hiding against the policy", "attributes-not-allowed", {
    patch: [[POLICY + 3, 0x01]],
  }],
  ["a privilege level of 1", "attributes-not-allowed", { patch: [[0x30, 1]] }],
  ["a masked chip key", "quote-signature-invalid", { patch: [[0x48, 2]] }],
  ["no signing key", "quote-signature-invalid", { patch: [[0x48, 7 << 2]] }],
  ["another chip", "platform-mismatch", { patch: [[0x1a0, 0x34]] }],
  ["a chip id of zeros", "platform-mismatch", {
    chipId: new Uint8Array(64),
    patch: Array.from({ length: 64 }, (_, i) => [0x1a0 + i, 0] as const),
  }],
  ["another TCB than the key's", "platform-mismatch", { certifiedTcb: [1, 2, 3, 5] }],
  ["another FMC than the key's", "platform-mismatch", {
    product: "Turin",
    certifiedTcb: [1, 2, 3, 4, 6],
  }],
  ["a processor of another product", "platform-mismatch", { patch: [[0x189, 0x11]] }],
  ["a key of another product than the root", "platform-mismatch", {
    rootVouchesFor: ["amd-genoa"],
  }],
  ["an unknown product", "certificate-malformed", { productName: "Venice-A0" }],
  ["a product that only starts like one", "certificate-malformed", { productName: "Milanese" }],
  ["a root for other evidence", "certificate-untrusted", { rootVouchesFor: ["intel"] }],
  ["a current TCB above the others", "tcb-status-not-allowed", { patch: [[0x38, 2]] }],
  ["a launch TCB below the others", "tcb-status-not-allowed", { patch: [[0x1f0, 0]] }],
  ["a lent key (VLEK)", "attributes-not-allowed", { kind: "vlek" }],
  ["a revoked ASK", "certificate-revoked", { revoked: true }],
  ["an ASK that is no CA", "certificate-usage-invalid", { askUsage: { serial: 9n } }],
];
for (const [what, code, spec] of ownRefusals) {
  test(`a report is refused for ${what}`, async () => {
    assert.equal((await appraiseOwn(spec)).reason, code);
  });
}

test("what the policy asks for and the platform keeps is allowed", async () => {
  const patch = [[POLICY + 2, 0x82], [POLICY + 3, 0x01], [PLATFORM, 0b11000]] as const;
  assert.equal((await appraiseOwn({ patch })).reason, undefined);
});

test("a lent key (VLEK) is allowed by policy, and needs no chip id", async () => {
  const policy = policyWith({ allowVlek: true });
  const masked = Array.from({ length: 64 }, (_, i) => [0x1a0 + i, 0] as const);
  const { verdict, reason } = await appraiseOwn({ kind: "vlek", patch: masked }, { policy });
  assert.equal(reason, undefined);
  assert.equal((verdict.tcb as { signingKey: string }).signingKey, "vlek");
});

test("a VCEK does not stand for a VLEK, nor the other way", async () => {
  const policy = policyWith({ allowVlek: true });
  const swapped = await appraiseOwn({ kind: "vcek", patch: [[0x48, 1 << 2]] }, { policy });
  assert.equal(swapped.reason, "endorsement-missing");
  const other = await appraiseOwn({ kind: "vlek", patch: [[0x48, 0]] }, { policy });
  assert.equal(other.reason, "endorsement-missing");
});

test("a revocation list that lists nobody is said to have been obeyed", async () => {
  const { verdict, reason } = await appraiseOwn({ revoked: false });
  assert.equal(reason, undefined);
  assert.equal(resultOf(verdict, "revocation"), "passed");
});

test("a report of version 2 is of the product its certificate names", async () => {
  const { verdict, reason } = await appraiseOwn({ product: "Genoa", patch: [[0, 2]] });
  assert.equal(reason, undefined);
  assert.equal((verdict.tcb as { product: string }).product, "Genoa-B0");
  assert.equal(verdict.measurements!["measurement"], toHex(new Uint8Array(48).fill(0x44)));
});
