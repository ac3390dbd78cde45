import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import { test } from "node:test";
import type { NitroEnclaveEvidence, SevSnpEvidence } from "#core/attestation/attestation.ts";
import { decodeAttestation, encodeAttestation } from "#core/attestation/versioned-attestation.ts";
import { fromHex, toHex, utf8 } from "#core/bytes/bytes.ts";
import { collateralToJson } from "#core/tdx/collateral.ts";
import { encodeEventLogJson } from "#core/event-log/tdx-event.ts";
import { simulatedCvm } from "../../../tests/simulated-cvm.ts";
import { vectorBytes, vectorTest, vectorText } from "../../../tests/vectors.ts";
import { type Material, readable, recognise } from "./material.ts";

const cvm = simulatedCvm();
const container = encodeAttestation(cvm.attestation);
const { platform } = cvm.attestation;
if (platform.kind !== "tdx") throw new TypeError("not TDX evidence");
const quote = toHex(platform.quote);
const eventLog = encodeEventLogJson(platform.eventLog);

function evidenceOf(material: Material) {
  if (material.kind === "evidence") return material;
  throw new TypeError(`recognised as ${material.kind}`);
}

for (
  const [what, bytes] of [
    ["raw", container],
    ["as hex", utf8(toHex(container))],
    ["as hex in lines", utf8(`0x${toHex(container).replaceAll(/(.{64})/g, "$1\n")}\n`)],
    ["as JSON", utf8(JSON.stringify({ attestation: toHex(container) }))],
  ] as const
) {
  test(`an attestation ${what} is evidence`, () => {
    const { evidence } = evidenceOf(recognise(bytes));
    assert.deepEqual(evidence.members, { attestation: toHex(container) });
    assert.equal(evidence.isBare, false);
  });
}

test("a quote holds certificates and is no certificate, raw or as hex", () => {
  for (const bytes of [platform.quote, utf8(quote)]) {
    const { evidence } = evidenceOf(recognise(bytes));
    assert.deepEqual(evidence.members, { quote });
    assert.equal(evidence.isBare, true);
  }
});

test("an answer of GetQuote brings its log; what it says of itself is no challenge", () => {
  const answer = {
    quote,
    event_log: eventLog,
    report_data: "00".repeat(64),
    vm_config: cvm.attestation.stack.config,
    hash_algorithm: "raw",
    prefix: "",
  };
  const { evidence, settings } = evidenceOf(recognise(utf8(JSON.stringify(answer))));
  const { vm_config } = answer;
  assert.deepEqual(evidence.members, { quote, event_log: eventLog, vm_config });
  assert.equal(evidence.isBare, false);
  assert.deepEqual(settings, {});
});

test("a whole request keeps its settings and collateral apart", () => {
  const collateral = collateralToJson(cvm.platform.collateral(new Date(0)));
  const policy = { require: [] };
  const request = { quote, collateral, time: "2026-03-01T00:00:00Z", policy, report_data: "00" };
  const material = evidenceOf(recognise(utf8(JSON.stringify(request))));
  assert.deepEqual(material.collateral, collateral);
  assert.deepEqual(material.settings, { time: request.time, policy });
});

test("collateral, app-compose and certificates are told apart", () => {
  const collateral = collateralToJson(cvm.platform.collateral(new Date(0)));
  const first = recognise(utf8(JSON.stringify(collateral)));
  assert.deepEqual(first, { kind: "collateral", collateral });
  const compose = `{ "docker_compose_file": "services: {}" }\n`;
  const composeHash = createHash("sha256").update(compose).digest("hex");
  assert.deepEqual(recognise(utf8(compose)), { kind: "app-compose", composeHash });
  const { rootCertificatePem: pem, rootCertificateDer: der } = cvm.platform;
  for (const bytes of [utf8(pem), utf8(`Certificate:\n  …\n${pem}`), der]) {
    const material = recognise(bytes);
    assert.ok(material.kind === "certificate");
    assert.deepEqual(material.certificate.encoded, der);
  }
});

for (
  const [what, text] of [
    ["nothing", " \n"],
    ["prose", "hello"],
    ["JSON of something else", "{}"],
    ["a list", "[]"],
    ["broken JSON", "{"],
    ["a verdict", `{"schema":"dstack-edge/verdict/v1"}`],
    ["half a byte", "0"],
    ["hex of nothing known", "ffff"],
    ["a member twice", `{"quote":"00","quote":"01"}`],
    ["two certificates", cvm.platform.rootCertificatePem.repeat(2)],
  ] as const
) {
  test(`${what} is refused in words`, () => {
    assert.throws(() => recognise(utf8(text)), { name: "AppError", code: /^input\// });
  });
}

test("readable() shows printable text as it is and anything else as hex", () => {
  assert.equal(readable(utf8("ext4")), "ext4");
  assert.equal(readable(Uint8Array.of(0x61, 0x00)), "6100");
  assert.equal(readable(Uint8Array.of(0xff)), "ff");
  assert.equal(readable(new Uint8Array()), "");
});

vectorTest(
  "evidence of AMD's and AWS's TEEs is recognised, and what it stands in is asked for",
  () => {
    const snp = JSON.parse(vectorText("dstack/sev-snp-attestation.json")) as {
      attestation: string;
    };
    const { report } = decodeAttestation(fromHex(snp.attestation)).platform as SevSnpEvidence;
    const nitro = vectorBytes("dstack/nitro_attestation.bin");
    const { nsmQuote } = decodeAttestation(nitro).platform as NitroEnclaveEvidence;
    const evidence: [RegExp, Uint8Array][] = [
      [/^An AMD SEV-SNP attestation/, utf8(JSON.stringify(snp))],
      [/^An AMD SEV-SNP attestation/, utf8(snp.attestation)],
      [/^An AMD SEV-SNP attestation/, vectorBytes("dstack/sev_snp_attestation.bin")],
      [/^An AWS Nitro enclave's attestation/, nitro],
      [/^An AWS Nitro enclave's attestation/, utf8(toHex(nitro))],
    ];
    for (const [what, bytes] of evidence) {
      assert.match(evidenceOf(recognise(bytes)).evidence.what, what);
    }
    for (const bytes of [report, utf8(toHex(report))]) {
      assert.throws(() => recognise(bytes), {
        message: /^This is an AMD SEV-SNP report by itself/,
      });
    }
    for (const bytes of [nsmQuote, utf8(toHex(nsmQuote)), Uint8Array.of(0xd2, ...nsmQuote)]) {
      assert.throws(() => recognise(bytes), {
        message: /^This is an AWS Nitro document by itself/,
      });
    }
  },
);

test("a request brings the vendor's documents with its attestation", () => {
  const vendor_documents = { certificates: ["3000"] };
  const request = { attestation: toHex(container), vendor_documents };
  const { evidence, settings } = evidenceOf(recognise(utf8(JSON.stringify(request))));
  assert.deepEqual(evidence.members, request);
  assert.deepEqual(settings, {});
});
