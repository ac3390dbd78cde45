import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { parseAppLabel, parseHostName } from "./host-name.ts";

/** Expected values: the table and the examples of gateway.md 3.3 and 9.1. */
const LABELS: readonly [string, ReturnType<typeof parseAppLabel>][] = [
  ["myapp", { id: "myapp", mode: "terminate", port: 80 }],
  ["myapp-8080", { id: "myapp", mode: "terminate", port: 8080 }],
  ["myapp-443s", { id: "myapp", mode: "passthrough", port: 443 }],
  ["myapp-8443s", { id: "myapp", mode: "passthrough", port: 8443 }],
  ["myapps", { id: "myapps", mode: "terminate", port: 80 }],
  ["myapp-s", { id: "myapp", mode: "passthrough", port: 443 }],
  ["myapp-g", { id: "myapp", mode: "h2", port: 80 }],
  ["myapp-9000g", { id: "myapp", mode: "h2", port: 9000 }],
  ["myapp-", { id: "myapp", mode: "terminate", port: 80 }],
  ["myapp-65535", { id: "myapp", mode: "terminate", port: 65535 }],
  ["myapp-gs", undefined],
  ["myapp-sg", undefined],
  ["myapp-8080gs", undefined],
  ["myapp-8080sg", undefined],
  ["myapp-8080-s", undefined],
  ["a-b-c", undefined],
  ["-8080", undefined],
  ["", undefined],
  ["-", undefined],
  ["myapp-0", undefined],
  ["myapp-65536", undefined],
  ["myapp-+80", undefined],
  ["myapp-80x", undefined],
  ["myapp-000080", undefined],
];

for (const [text, expected] of LABELS) {
  test(`label ${JSON.stringify(text)}`, () => assert.deepEqual(parseAppLabel(text), expected));
}

const arbitraryId = fc.stringMatching(/^[0-9a-f]{40}$/);
const arbitrarySuffix = fc.constantFrom("", "s", "g");

test("every id, port and suffix of the grammar is read back", () => {
  fc.assert(
    fc.property(
      arbitraryId,
      fc.integer({ min: 1, max: 65535 }),
      arbitrarySuffix,
      (id, port, suffix) => {
        const mode = suffix === "s" ? "passthrough" : suffix === "g" ? "h2" : "terminate";
        assert.deepEqual(parseAppLabel(`${id}-${port}${suffix}`), { id, mode, port });
      },
    ),
  );
});

test("no text makes the parser throw or yields an impossible port", () => {
  fc.assert(fc.property(fc.string({ maxLength: 80 }), (text) => {
    const name = parseHostName(text, ["apps.localhost", "localhost"]);
    if (name.kind === "app") {
      assert.ok(name.label.port >= 1 && name.label.port <= 65535);
      assert.match(name.label.id, /^[^-.]+$/);
    }
  }));
});

test("capitals in a server name make no difference", () => {
  fc.assert(
    fc.property(arbitraryId, fc.array(fc.boolean(), { minLength: 80, maxLength: 80 }), (id, up) => {
      const host = `${id}-8443s.apps.localhost`;
      const shouted = [...host].map((c, i) => up[i] ? c.toUpperCase() : c).join("");
      assert.deepEqual(
        parseHostName(shouted, ["apps.localhost"]),
        parseHostName(host, ["apps.localhost"]),
      );
    }),
  );
});

test("the longest base domain wins whatever the order", () => {
  for (const bases of [["localhost", "apps.localhost"], ["apps.localhost", "localhost"]]) {
    const name = parseHostName("x.apps.localhost", bases);
    assert.equal(name.kind === "app" && name.baseDomain, "apps.localhost");
    const short = parseHostName("x.localhost", bases);
    assert.equal(short.kind === "app" && short.baseDomain, "localhost");
  }
});

const REFUSED: readonly [string, string][] = [
  ["", "no-host-name"],
  [".", "no-host-name"],
  ["x.example.com", "unknown-domain"],
  ["xapps.localhost", "unknown-domain"],
  ["apps.localhost", "missing-label"],
  ["a.b.apps.localhost", "nested-label"],
  [".apps.localhost", "malformed-label"],
  ["a-1-2.apps.localhost", "malformed-label"],
];
for (const [host, reason] of REFUSED) {
  test(`host ${JSON.stringify(host)} is refused: ${reason}`, () => {
    assert.deepEqual(parseHostName(host, ["apps.localhost"]), { kind: "refused", reason });
  });
}
