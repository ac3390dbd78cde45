import assert from "node:assert/strict";
import { test } from "node:test";
import { parseRfc3339 } from "./rfc3339.ts";

for (
  const [text, utc] of [
    ["2026-03-01T00:00:00Z", "2026-03-01T00:00:00.000Z"],
    ["2026-03-01t00:00:00.5z", "2026-03-01T00:00:00.500Z"],
    ["1996-12-19T16:39:57-08:00", "1996-12-20T00:39:57.000Z"], // RFC 3339 5.8
    ["2024-02-29T23:59:59+05:30", "2024-02-29T18:29:59.000Z"],
  ] as const
) {
  test(`parseRfc3339() reads ${text}`, () => {
    assert.equal(parseRfc3339(text, "time").toISOString(), utc);
  });
}

for (
  const text of [
    "",
    "now",
    "2026-03-01",
    "2026-03-01T00:00:00",
    "2026-03-01 00:00:00Z",
    "2026-02-30T00:00:00Z",
    "2026-02-29T00:00:00Z",
    "2026-13-01T00:00:00Z",
    "2026-01-01T24:00:00Z",
    "2016-12-31T23:59:60Z",
    "2026-01-01T00:00:00+99:00",
    "1772323200",
  ]
) {
  test(`parseRfc3339() refuses '${text}'`, () => {
    assert.throws(() => parseRfc3339(text, "time"), { code: "input/malformed" });
  });
}
