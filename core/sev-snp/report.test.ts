import assert from "node:assert/strict";
import { test } from "node:test";
import { parserProperty } from "../../tests/parser-property.ts";
import { vectorBytes, vectorTest } from "../../tests/vectors.ts";
import { decodeAttestation } from "../attestation/versioned-attestation.ts";
import { fromHex, toHex } from "../bytes/bytes.ts";
import { encodePem } from "../encoding/pem.ts";
import { utf8 } from "../bytes/bytes.ts";
import { buildX509Certificate, x509Name } from "../x509/x509-builder.ts";
import { snpCertificatesOf } from "./certificates.ts";
import { productOfCpu, readSnpTcb } from "./product.ts";
import { parseSnpReport } from "./report.ts";

/** A report of a version 3 processor with nothing wrong, as far as its layout goes. */
function reportBytes(): Uint8Array {
  const bytes = new Uint8Array(1184);
  bytes[0] = 3;
  bytes[0x0a] = 0x03; // policy: SMT and the reserved bit
  bytes[0x34] = 1;
  return bytes;
}

vectorTest("a Milan report is parsed by field", () => {
  const { platform } = decodeAttestation(vectorBytes("dstack/sev_snp_attestation.bin"));
  assert.ok(platform.kind === "sev-snp");
  const report = parseSnpReport(platform.report);
  assert.equal(report.version, 3);
  assert.equal(report.policyBits, 0x30000n);
  assert.deepEqual(
    [report.policy.smtAllowed, report.policy.debugAllowed, report.policy.reservedBitsHold],
    [true, false, true],
  );
  assert.deepEqual([report.vmpl, report.signingKey, report.chipKeyMasked], [0, "vcek", false]);
  assert.deepEqual(
    [report.platform.smtEnabled, report.platform.eccEnabled, report.platform.aliasCheckComplete],
    [true, true, true],
  );
  assert.equal(
    new TextDecoder().decode(report.reportData.slice(0, 24)),
    "attest-test-fixture-2026",
  );
  assert.equal(toHex(report.measurement.slice(0, 4)), "7f51e17f");
  assert.equal(
    toHex(report.hostData),
    "783f0057820acb99249af56cc3b07b4e8d80f65183167cba9cf437bb680f742f",
  );
  assert.deepEqual(report.cpu, { family: 0x19, model: 1, stepping: 1 });
  assert.equal(productOfCpu(report.cpu!), "Milan");
  assert.equal(toHex(report.chipId.slice(0, 4)), "38d17458");
  const tcb = { bootloader: 4, tee: 0, snp: 0x18, microcode: 0xd5 };
  assert.deepEqual(readSnpTcb(report.currentTcb, "Milan"), tcb);
  assert.deepEqual(readSnpTcb(report.reportedTcb, "Milan"), { ...tcb, snp: 0x17 });
  assert.equal(report.currentFirmware, "1.55.29");
});

for (
  const [what, offset, value, code] of [
    ["version 1", 0, 1, "input/unsupported"],
    ["version 6", 0, 6, "input/unsupported"],
    ["another signature algorithm", 0x34, 2, "input/unsupported"],
    ["an unknown signing key", 0x48, 2 << 2, "input/unsupported"],
    ["an r beyond P-384", 0x2a0 + 48, 1, "input/malformed"],
    ["an s beyond P-384", 0x2a0 + 72 + 71, 1, "input/malformed"],
    ["a byte after the signature", 1183, 1, "input/malformed"],
  ] as const
) {
  test(`a report with ${what} is refused`, () => {
    const bytes = reportBytes();
    parseSnpReport(bytes);
    bytes[offset] = value;
    assert.throws(() => parseSnpReport(bytes), { code });
  });
}

test("a report of another length is refused, a version 2 report has no processor", () => {
  for (const length of [0, 1183, 1185]) {
    assert.throws(() => parseSnpReport(new Uint8Array(length)), { code: "input/malformed" });
  }
  const bytes = reportBytes();
  bytes[0] = 2;
  bytes[0x188] = 0x19;
  assert.equal(parseSnpReport(bytes).cpu, undefined);
});

test("bits of policy and platform have their place", () => {
  const bits = (offset: number, bit: number) => {
    const bytes = reportBytes();
    bytes[offset + (bit >> 3)]! ^= 1 << (bit & 7);
    return parseSnpReport(bytes);
  };
  const policy = (bit: number) => bits(8, bit).policy;
  assert.equal(policy(16).smtAllowed, false);
  assert.equal(policy(17).reservedBitsHold, false);
  assert.equal(policy(18).migrationAgentAllowed, true);
  assert.equal(policy(19).debugAllowed, true);
  assert.equal(policy(20).singleSocketRequired, true);
  assert.equal(policy(21).cxlAllowed, true);
  assert.equal(policy(22).aes256XtsRequired, true);
  assert.equal(policy(23).raplMustBeOff, true);
  assert.equal(policy(24).ciphertextHidingRequired, true);
  assert.equal(policy(25).pageSwapMustBeOff, true);
  for (let bit = 26; bit < 64; bit++) assert.equal(policy(bit).reservedBitsHold, false, `${bit}`);
  const platform = (bit: number) => Object.values(bits(0x40, bit).platform);
  for (let bit = 0; bit < 6; bit++) {
    assert.deepEqual(platform(bit), Array.from({ length: 6 }, (_, i) => i === bit));
  }
  assert.equal(bits(0x48, 1).chipKeyMasked, true);
  assert.equal(bits(0x48, 2).signingKey, "vlek");
});

test("products are told apart by family and model", () => {
  const product = (family: number, model: number) => productOfCpu({ family, model, stepping: 0 });
  assert.deepEqual([0, 0x0f].map((m) => product(0x19, m)), ["Milan", "Milan"]);
  assert.deepEqual([0x10, 0x1f, 0xa0, 0xaf].map((m) => product(0x19, m)), Array(4).fill("Genoa"));
  assert.deepEqual([0x20, 0x9f, 0xb0].map((m) => product(0x19, m)), Array(3).fill(undefined));
  assert.deepEqual([0, 0x11, 0x12].map((m) => product(0x1a, m)), ["Turin", "Turin", undefined]);
  assert.equal(product(0x17, 1), undefined);
});

test("Turin puts the FMC before the boot loader", () => {
  const version = fromHex("0102030400000708");
  assert.deepEqual(readSnpTcb(version, "Turin"), {
    fmc: 1,
    bootloader: 2,
    tee: 3,
    snp: 4,
    microcode: 8,
  });
  assert.deepEqual(readSnpTcb(version, "Genoa"), {
    bootloader: 1,
    tee: 2,
    snp: 7,
    microcode: 8,
  });
});

const authority = { name: x509Name("Test", "key"), key: new Uint8Array(32).fill(7) };
const certificate = buildX509Certificate({
  serial: 1n,
  issuer: authority,
  subject: authority,
  notBefore: 0,
  notAfter: 1,
});
/** The kernel's table: entries of 24 bytes, one of zeros, then the certificates. */
function certificateTable(...guids: string[]): Uint8Array {
  const head = (guids.length + 1) * 24;
  const table = new Uint8Array(head + certificate.length);
  const view = new DataView(table.buffer);
  guids.forEach((guid, i) => {
    table.set(fromHex(guid), i * 24);
    view.setUint32(i * 24 + 16, head, true);
    view.setUint32(i * 24 + 20, certificate.length, true);
  });
  table.set(certificate, head);
  return table;
}
const ASK = "4ab7b379bbac4fe4a02f05aef327c782";
const VCEK = "63da758de6644564adc5f4b93be8accd";
const VLEK = "a8074bc2a25a483eaae639c045a0b8a1";

test("certificates are read as PEM, DER and from the kernel's table", () => {
  const pem = utf8(encodePem("CERTIFICATE", certificate));
  const entries = [
    pem,
    certificate,
    certificateTable(ASK, VCEK, VLEK),
    certificateTable("11".repeat(16)),
  ];
  const found = snpCertificatesOf(entries);
  assert.equal(found.length, 1 + 1 + 3);
  for (const { encoded } of found) assert.deepEqual(encoded, certificate);
});

test("a table that ends early or points beyond itself is refused", () => {
  const table = certificateTable(VCEK);
  const short = table.slice(0, 24 + 30);
  const unending = certificateTable(...Array<string>(16).fill("11".repeat(16)));
  for (const bad of [short, new Uint8Array(0), unending, table.slice(0, -1)]) {
    assert.throws(() => snpCertificatesOf([bad]), { code: "input/malformed" });
  }
});

parserProperty("parseSnpReport()", parseSnpReport, reportBytes);
parserProperty(
  "snpCertificatesOf()",
  (bytes) => snpCertificatesOf([bytes]),
  () => certificateTable(ASK, VCEK),
);
