import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { vectorBytes, vectorTest } from "../../tests/vectors.ts";
import { equalBytes, toHex } from "../bytes/bytes.ts";
import { encodeCcel, parseCcel } from "./ccel.ts";
import { replayDigests, replayEventLog } from "./replay.ts";
import { encodeTcgLog, parseTcgLog, TCG_SHA256, TCG_SHA384, tcgEvent } from "./tcg-log.ts";

const LENGTH = 1933; // of the log in ccel.bin, before its buffer space

vectorTest("ccel.bin replays to the registers of the capture", () => {
  const log = parseCcel(vectorBytes("dstack/ccel.bin"));
  assert.equal(log.length, 18);
  assert.equal(log.filter(({ imr }) => imr === 0).length, 13);
  assert.deepEqual(log.filter(({ event }) => event).map(({ event }) => event), [
    "acpi-loader",
    "acpi-rsdp",
    "acpi-tables",
  ]);
  const [rtmr0, rtmr1, rtmr2] = replayEventLog(log);
  assert.equal(
    toHex(rtmr0),
    "274c2344116db7c663470693b5ba62b8621eac28cb41d2f816ddf188f9f423f900a1c44d32386fd3c993dc814e62af9d",
  );
  assert.equal(
    toHex(rtmr1),
    "bdcf4ee0f7fdfe7c73fbb19ded73193aee23a6726b86d3b282ea097cf4c9ed7a0db21b5c1ccd513e410d90e310836b26",
  );
  assert.equal(toHex(rtmr2), "00".repeat(48));
});

vectorTest("encodeCcel() writes the firmware's bytes", () => {
  const bytes = vectorBytes("dstack/ccel.bin");
  const encoded = encodeCcel(parseCcel(bytes));
  // 1933 bytes of records and 4 of terminator
  assert.ok(equalBytes(encoded, bytes.subarray(0, LENGTH + 4)));
});

vectorTest("every truncation of ccel.bin is refused as malformed", () => {
  const bytes = vectorBytes("dstack/ccel.bin");
  for (let n = 0; n < LENGTH + 4; n++) {
    assert.throws(() => parseCcel(bytes.subarray(0, n)), { code: "input/malformed" }, `${n}`);
  }
});

vectorTest("tpm_eventlog.bin: PCR0 and PCR2 of a GCP machine", () => {
  const log = parseTcgLog(vectorBytes("dstack/tpm_eventlog.bin"));
  assert.equal(log.terminated, false);
  const sha256Of = (register: number) =>
    log.events.filter((event) => event.register === register && event.eventType !== 3)
      .map(({ digests }) => digests.find(({ algorithm }) => algorithm === TCG_SHA256)!.digest);
  assert.equal(
    toHex(replayDigests(sha256Of(0), "sha256")),
    "0cca9ec161b09288802e5a112255d21340ed5b797f5fe29cecccfd8f67b9f802",
  );
  assert.equal(
    toHex(replayDigests(sha256Of(2), "sha256")),
    "1f74355f18d9aab3a26faa060d2058726554207d040c63d25d501d97f5a41e0f",
  );
  assert.equal(
    toHex(sha256Of(2)[2]!),
    "9ab14a46f858662a89adc102d2a57a13f52f75c1769d65a4c34edbbfc8855f0f",
  );
});

test("a log survives the round trip", () => {
  const event = fc.record({
    register: fc.integer({ min: 1, max: 4 }),
    eventType: fc.nat(),
    digest: fc.uint8Array({ minLength: 48, maxLength: 48 }),
    payload: fc.uint8Array({ maxLength: 64 }),
  });
  fc.assert(fc.property(fc.array(event, { maxLength: 8 }), (events) => {
    const written = events.map((e) =>
      tcgEvent(e.register, e.eventType, TCG_SHA384, e.digest, e.payload)
    );
    const read = parseTcgLog(encodeTcgLog(TCG_SHA384, written));
    assert.deepEqual(read, { algorithms: [TCG_SHA384], events: written, terminated: true });
  }));
});

test("CCEL records with two digests, another algorithm or an unknown register are refused", () => {
  const digest = new Uint8Array(48);
  const one = tcgEvent(1, 1, TCG_SHA384, digest);
  const two = { ...one, digests: [...one.digests, ...one.digests] };
  assert.throws(() => parseCcel(encodeTcgLog(TCG_SHA384, [two])), { code: "input/malformed" });
  const none = { ...one, digests: [] };
  assert.throws(() => parseCcel(encodeTcgLog(TCG_SHA384, [none])), { code: "input/malformed" });
  const sha256 = tcgEvent(1, 1, TCG_SHA256, new Uint8Array(32));
  assert.throws(() => parseCcel(encodeTcgLog(TCG_SHA384, [sha256])), { code: "input/malformed" });
  const rtmr4 = tcgEvent(5, 1, TCG_SHA384, digest);
  assert.throws(() => parseCcel(encodeTcgLog(TCG_SHA384, [rtmr4])), { code: "input/malformed" });
  assert.deepEqual(parseCcel(encodeTcgLog(TCG_SHA384, [tcgEvent(0, 1, TCG_SHA384, digest)])), []);
});

test("parseTcgLog() throws nothing but input/malformed on noise", () => {
  const header = encodeTcgLog(TCG_SHA384, []).slice(0, -4);
  fc.assert(fc.property(fc.uint8Array({ maxLength: 200 }), (noise) => {
    for (const bytes of [noise, Uint8Array.of(...header, ...noise)]) {
      try {
        parseTcgLog(bytes);
      } catch (error) {
        assert.equal((error as { code?: string }).code, "input/malformed");
      }
    }
  }));
});
