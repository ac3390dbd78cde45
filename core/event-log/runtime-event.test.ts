import assert from "node:assert/strict";
import { test } from "node:test";
import { fromHex, toHex, utf8 } from "../bytes/bytes.ts";
import { canonicalRuntimeEvent, runtimeEventDigest } from "./runtime-event.ts";

// Known answers of spec attestation.md 2.1.
for (
  const [version, event, payload, digest] of [
    [
      1,
      "system-preparing",
      "",
      "f9974020ef507068183313d0ca808e0d1ca9b2d1ad0c61f5784e7157c362c06536f5ddacdad4451693f48fcc72fff624",
    ],
    [
      1,
      "boot-mr-done",
      "",
      "98bd7e6bd3952720b65027fd494834045d06b4a714bf737a06b874638b3ea00ff402f7f583e3e3b05e921c8570433ac6",
    ],
    [
      1,
      "system-ready",
      "",
      "1a76b2a80a0be71eae59f80945d876351a7a3fb8e9fd1ff1cede5734aa84ea11fd72b4edfbb6f04e5a85edd114c751bd",
    ],
    [
      1,
      "app-id",
      "deadbeef",
      "67b4be4efed0893cfa2bb1d35dca209ad8348b4c97f980807bcde8b9a0f26398dd0923d6eccb5aa2096d98046da8740f",
    ],
    [
      2,
      "compose-hash",
      "abcd",
      "9dde1673f544faa94b921825209593ddde08d0baf9cd6990175dffaf3081f1bb10311d56de189491feb33842a050ad7b",
    ],
  ] as const
) {
  test(`v${version} digest of ${event} ${payload || "without payload"}`, () => {
    const bytes = fromHex(payload);
    assert.equal(toHex(runtimeEventDigest({ event, payload: bytes, version })), digest);
  });
}

test("the v2 preimage is RFC 8785 JSON", () => {
  assert.equal(
    canonicalRuntimeEvent({ event: "compose-hash", payload: fromHex("abcd"), version: 2 }),
    '{"name":"compose-hash","payload":"abcd","type":134217729}',
  );
  assert.equal(
    canonicalRuntimeEvent({ event: 'a"\\\n\u0001é\u2028/', payload: utf8(""), version: 2 }),
    String.raw`{"name":"a\"\\\n\u0001é` + "\u2028" + `/","payload":"","type":134217729}`,
  );
});
