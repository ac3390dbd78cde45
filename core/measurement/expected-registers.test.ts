import assert from "node:assert/strict";
import { test } from "node:test";
import { fromHex, fromUtf8, toHex } from "../bytes/bytes.ts";
import { AppError } from "../errors/app-error.ts";
import { decodeAttestation, tdReportOf } from "../attestation/versioned-attestation.ts";
import { acpiDigestsOf, labelAcpiEvents, parseEventLogJson } from "../event-log/tdx-event.ts";
import { replayDigests } from "../event-log/replay.ts";
import { parseQuote } from "../tdx/quote.ts";
import { vectorTest, vectorText } from "../../tests/vectors.ts";
import { checkMeasurementBinding } from "./checksum-file.ts";
import { BOOT_0000, BOOT_ORDER, SECURE_BOOT_EVENTS, SEPARATOR } from "./efi-constants.ts";
import { expectedTdxRegisters } from "./expected-registers.ts";
import { vmShapeOf } from "./measure-image.ts";
import { parseTdHobWitness } from "./td-hob.ts";
import {
  encodeTdxMeasurementDocument,
  parseTdxMeasurementDocument,
} from "./tdx-measurement-document.ts";
import { encodeVmConfig, parseVmConfig, usesTwoPass } from "./vm-config.ts";

/** The capture of a 2 GiB VM under QEMU 8.2.2 with a lite measurement document. */
function liteCapture() {
  const { attestation } = JSON.parse(vectorText("dstack/tdx-lite-attestation.json"));
  const { platform, stack } = decodeAttestation(fromHex(attestation));
  if (platform.kind !== "tdx") throw new TypeError("not TDX evidence");
  const vmConfig = parseVmConfig(stack.config);
  return {
    report: tdReportOf(parseQuote(platform.quote)),
    eventLog: platform.eventLog,
    config: stack.config,
    vmConfig,
    material: vmConfig.tdxMeasurement!,
  };
}

vectorTest("a real lite attestation recomputes: MRTD and RTMR0-2", () => {
  const { report, eventLog, vmConfig, material } = liteCapture();
  checkMeasurementBinding(vmConfig.osImageHash, "measurement.tdx.cbor", material);
  const expected = expectedTdxRegisters({
    document: parseTdxMeasurementDocument(material.measurement),
    memoryBytes: vmConfig.memoryBytes,
    twoPass: usesTwoPass(vmConfig),
    acpiDigests: acpiDigestsOf(eventLog),
  });
  assert.equal(toHex(expected.mrTd), toHex(report.mrTd));
  assert.deepEqual(expected.rtmrs.map(toHex), report.rtmrs.slice(0, 3).map(toHex));
});

vectorTest(
  "a real lite attestation recomputes without its log: the ACPI tables are predicted",
  async () => {
    const { report, vmConfig, material } = liteCapture();
    const expected = expectedTdxRegisters({
      document: parseTdxMeasurementDocument(material.measurement),
      ...await vmShapeOf(vmConfig),
    });
    assert.equal(toHex(expected.mrTd), toHex(report.mrTd));
    assert.deepEqual(expected.rtmrs.map(toHex), report.rtmrs.slice(0, 3).map(toHex));
  },
);

vectorTest("RTMR0 of a real TD with a GPU follows from its configuration", async () => {
  const capture = JSON.parse(vectorText("dstack/quote-report.json"));
  const { rtmrs, mrTd } = tdReportOf(parseQuote(fromHex(capture.quote)));
  const digest = new Uint8Array(48);
  const expected = expectedTdxRegisters({
    document: {
      image: { cmdlineSha384: digest, initrdSha384: digest, kernelAuthenticode: digest },
      mrTd: { singlePass: mrTd, twoPass: digest },
      acceptedMemory: parseTdHobWitness(fromHex("80100904000609020b021010")),
    },
    ...await vmShapeOf(parseVmConfig(capture.vm_config)),
  });
  assert.equal(toHex(expected.mrTd), toHex(mrTd));
  assert.equal(toHex(expected.rtmrs[0]), toHex(rtmrs[0]!));
});

vectorTest("the captured document is written as it was read", () => {
  const { material } = liteCapture();
  const document = parseTdxMeasurementDocument(material.measurement);
  assert.equal(material.measurement.length, 384);
  assert.equal(toHex(encodeTdxMeasurementDocument(document)), toHex(material.measurement));
});

vectorTest("a document with a flipped bit, cut short or with a tail is refused", () => {
  const { vmConfig, material } = liteCapture();
  const original = material.measurement;
  for (let i = 0; i < original.length; i++) {
    const measurement = original.slice();
    measurement[i]! ^= 1;
    assert.throws(
      () =>
        checkMeasurementBinding(vmConfig.osImageHash, "measurement.tdx.cbor", {
          ...material,
          measurement,
        }),
      (error) => error instanceof AppError && error.code === "measurement/image-mismatch",
    );
    assert.throws(() => parseTdxMeasurementDocument(original.subarray(0, i)), AppError);
  }
  assert.throws(() => parseTdxMeasurementDocument(Uint8Array.of(...original, 0)), AppError);
});

vectorTest("the captured vm_config is written as it was read", () => {
  const { config, vmConfig } = liteCapture();
  assert.deepEqual(JSON.parse(encodeVmConfig(vmConfig)), withoutUnknown(JSON.parse(config)));
});

/** The VMM's own members, and nulls, which the reference's serialisation of VmConfig lacks. */
function withoutUnknown(config: Record<string, unknown>) {
  const { spec_version: _, ...members } = config;
  return members;
}

vectorTest("our constant events are those a real machine logged, payloads included", () => {
  const capture = JSON.parse(vectorText("dstack/quote-report.json"));
  const log = labelAcpiEvents(parseEventLogJson(capture.event_log));
  const report = tdReportOf(parseQuote(fromHex(capture.quote)));
  const digest = (imr: number, i: number) => log.filter((event) => event.imr === imr)[i]!.digest;
  const expected = expectedTdxRegisters({
    document: {
      image: {
        cmdlineSha384: digest(2, 0),
        initrdSha384: digest(2, 1),
        kernelAuthenticode: digest(1, 0),
      },
      mrTd: { singlePass: report.mrTd, twoPass: report.mrTd },
      acceptedMemory: parseTdHobWitness(fromHex("80100904000609020b021010")),
    },
    memoryBytes: 64 * 2 ** 30,
    twoPass: false,
    acpiDigests: acpiDigestsOf(log),
  });
  assert.deepEqual(expected.rtmrs.map(toHex), report.rtmrs.slice(0, 3).map(toHex));
  const shown = (
    event: { imr: number; eventType: number; digest: Uint8Array; payload: Uint8Array },
  ) =>
    `${event.imr} ${event.eventType.toString(16)} ${toHex(event.digest)} ${toHex(event.payload)}`;
  const isBoot = (event: { imr: number }) => event.imr < 3;
  const isKernel = (event: { eventType: number }) => event.eventType === 0x8000_0003;
  assert.deepEqual(
    expected.events.filter((event) => !isKernel(event)).map(shown),
    log.filter((event) => isBoot(event) && !isKernel(event)).map(shown),
  );
});

// spec/attestation.md 5.3
test("the constants are what their definitions hash to", () => {
  assert.deepEqual(
    [...SECURE_BOOT_EVENTS, SEPARATOR, BOOT_ORDER, BOOT_0000].map((event) => toHex(event.digest)),
    [
      "9dc3a1f80bcec915391dcda5ffbb15e7419f77eab462bbf72b42166fb70d50325e37b36f93537a863769bcf9bedae6fb",
      "6f2e3cbc14f9def86980f5f66fd85e99d63e69a73014ed8a5633ce56eca5b64b692108c56110e22acadcef58c3250f1b",
      "d607c0efb41c0d757d69bca0615c3a9ac0b1db06c557d992e906c6b7dee40e0e031640c7bfd7bcd35844ef9edeadc6f9",
      "08a74f8963b337acb6c93682f934496373679dd26af1089cb4eaf0c30cf260a12e814856385ab8843e56a9acea19e127",
      "18cc6e01f0c6ea99aa23f8a280423e94ad81d96d0aeb5180504fc0f7a40cb3619dd39bd6a95ec1680a86ed6ab0f9828d",
      "394341b7182cd227c5c6b07ef8000cdfd86136c4292b8e576573ad7ed9ae41019f5818b4b971c9effc60e1ad9f1289f0",
      "1dd6f7b457ad880d840d41c961283bab688e94e4b59359ea45686581e90feccea3c624b1226113f824f315eb60ae0a7c",
      "23ada07f5261f12f34a0bd8e46760962d6b4d576a416f1fea1c64bc656b1d28eacf7047ae6e967c58fd2a98bfa74c298",
    ],
  );
});

test("memory sizes the kernel digest does not cover are refused", () => {
  const digest = new Uint8Array(48);
  const predict = (memoryBytes: number) =>
    expectedTdxRegisters({
      document: {
        image: { cmdlineSha384: digest, initrdSha384: digest, kernelAuthenticode: digest },
        mrTd: { singlePass: digest, twoPass: digest },
        acceptedMemory: parseTdHobWitness(fromHex("80100904000609020b021010")),
      },
      memoryBytes,
      twoPass: false,
      acpiDigests: { loader: digest, rsdp: digest, tables: digest },
    });
  for (const mib of [1024, 2047, 2049, 2815]) {
    assert.throws(
      () => predict(mib * 2 ** 20),
      (error) => error instanceof AppError && error.code === "measurement/unsupported",
    );
  }
  const { rtmr0Events, events, rtmrs } = predict(2816 * 2 ** 20);
  assert.equal(rtmr0Events.length, 13);
  assert.equal(
    toHex(replayDigests(events.filter((e) => e.imr === 1).map((e) => e.digest))),
    toHex(rtmrs[1]),
  );
  assert.equal(fromUtf8(rtmr0Events[8]!.payload), "ACPI DATA");
});
