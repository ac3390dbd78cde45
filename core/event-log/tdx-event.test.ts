import assert from "node:assert/strict";
import { test } from "node:test";
import { parserProperty } from "../../tests/parser-property.ts";
import { fromHex, fromUtf8, toHex, utf8 } from "../bytes/bytes.ts";
import { RUNTIME_EVENT_TYPE } from "./runtime-event.ts";
import {
  acpiDigestsOf,
  effectiveDigest,
  encodeEventLogJson,
  eventLogForCertificate,
  eventLogForQuote,
  labelAcpiEvents,
  parseEventLogJson,
  type TdxEvent,
} from "./tdx-event.ts";

const boot = (payload: string, digest = "11".repeat(48)): TdxEvent => ({
  imr: 0,
  eventType: 10,
  digest: fromHex(digest),
  event: "",
  payload: utf8(payload),
  version: 1,
});
const runtime = (version: 1 | 2): TdxEvent => ({
  imr: 3,
  eventType: RUNTIME_EVENT_TYPE,
  digest: fromHex("22".repeat(48)),
  event: "compose-hash",
  payload: fromHex("abcd"),
  version,
});

test("JSON omits version 1 and an absent preimage, and reads both back", () => {
  const text = encodeEventLogJson([runtime(1), { ...runtime(2), preimage: "7b7d" }]);
  assert.equal(
    text,
    `[{"imr":3,"event_type":134217729,"digest":"${"22".repeat(48)}","event":"compose-hash",` +
      `"event_payload":"abcd"},{"imr":3,"event_type":134217729,"digest":"${"22".repeat(48)}",` +
      `"event":"compose-hash","event_payload":"abcd","version":2,"preimage":"7b7d"}]`,
  );
  assert.equal(encodeEventLogJson(parseEventLogJson(text)), text);
});

test("a missing digest is empty", () => {
  const [event] = parseEventLogJson('[{"imr":3,"event_type":1,"event":"x","event_payload":""}]');
  assert.equal(event!.digest.length, 0);
});

test("the digest a runtime event claims is ignored", () => {
  assert.equal(
    toHex(effectiveDigest(runtime(2))),
    "9dde1673f544faa94b921825209593ddde08d0baf9cd6990175dffaf3081f1bb10311d56de189491feb33842a050ad7b",
  );
  assert.equal(toHex(effectiveDigest(boot("ACPI DATA"))), "11".repeat(48));
});

test("the first three ACPI markers of RTMR0 are named in order, a fourth is not", () => {
  const log = [boot("x"), ...Array.from({ length: 4 }, () => boot("ACPI DATA"))];
  assert.deepEqual(labelAcpiEvents(log).map(({ event }) => event), [
    "",
    "acpi-loader",
    "acpi-rsdp",
    "acpi-tables",
    "",
  ]);
  assert.equal(labelAcpiEvents([{ ...boot("ACPI DATA"), imr: 1 }])[0]!.event, "");
});

test("acpiDigestsOf() selects by label, not by position", () => {
  const [loader, rsdp, tables] = labelAcpiEvents([
    boot("ACPI DATA", "01".repeat(48)),
    boot("ACPI DATA", "02".repeat(48)),
    boot("ACPI DATA", "03".repeat(48)),
  ]);
  const digests = acpiDigestsOf([tables!, loader!, rsdp!]);
  assert.equal(digests.loader[0], 1);
  assert.equal(digests.rsdp[0], 2);
  assert.equal(digests.tables[0], 3);
  assert.throws(() => acpiDigestsOf([loader!, rsdp!]), { code: "input/malformed" });
  assert.throws(() => acpiDigestsOf([loader!, rsdp!, tables!, tables!]), {
    code: "input/malformed",
  });
  assert.throws(() => acpiDigestsOf([loader!, loader!, tables!]), { code: "input/malformed" });
  const short = { ...rsdp!, digest: fromHex("02") };
  assert.throws(() => acpiDigestsOf([loader!, short, tables!]), { code: "input/malformed" });
});

test("the GetQuote form keeps ACPI markers and runtime payloads, and fills v2 preimages", () => {
  const [plain, acpi, one, two] = eventLogForQuote([
    boot("secret"),
    boot("ACPI DATA"),
    runtime(1),
    runtime(2),
  ]);
  assert.deepEqual([plain!.payload.length, plain!.digest.length], [0, 48]);
  assert.deepEqual([acpi!.payload.length, acpi!.digest.length], [9, 48]);
  assert.deepEqual([one!.payload.length, one!.digest.length, one!.preimage], [2, 0, undefined]);
  assert.equal(
    new TextDecoder().decode(fromHex(two!.preimage!)),
    '{"name":"compose-hash","payload":"abcd","type":134217729}',
  );
});

test("the certificate form keeps only ACPI markers and RTMR3", () => {
  const kept = eventLogForCertificate([boot("secret"), boot("ACPI DATA"), runtime(1)]);
  assert.deepEqual(kept.map(({ imr, digest }) => [imr, digest.length]), [[0, 48], [3, 0]]);
});

for (
  const text of [
    "",
    "{}",
    "[1]",
    "[null]",
    '[{"imr":-1,"event_type":1,"event":"","event_payload":""}]',
    '[{"imr":4294967296,"event_type":1,"event":"","event_payload":""}]',
    '[{"imr":0,"event_type":1.5,"event":"","event_payload":""}]',
    '[{"imr":0,"event_type":1,"event":1,"event_payload":""}]',
    '[{"imr":0,"event_type":1,"event":"","event_payload":"f"}]',
    '[{"imr":0,"event_type":1,"event":"","event_payload":"","version":3}]',
    '[{"imr":0,"event_type":1,"event":"","event_payload":"","preimage":5}]',
  ]
) {
  test(`parseEventLogJson() refuses ${text || "an empty text"}`, () => {
    assert.throws(() => parseEventLogJson(text), { code: "input/malformed" });
  });
}

parserProperty(
  "parseEventLogJson()",
  (bytes) => parseEventLogJson(fromUtf8(bytes)),
  () => utf8(encodeEventLogJson([boot("ACPI DATA"), runtime(1), runtime(2)])),
);
