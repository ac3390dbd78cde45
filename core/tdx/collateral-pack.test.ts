import assert from "node:assert/strict";
import { test } from "node:test";
import { parserProperty } from "../../tests/parser-property.ts";
import { p256Spki } from "../crypto/p256.ts";
import { createCollateralPack, isCollateralPack, openCollateralPack } from "./collateral-pack.ts";
import { platformKindOf } from "./platform-kind.ts";
import { parseQuote } from "./quote.ts";
import { createSimulatedPlatform } from "./simulated-platform.ts";

const NOW = new Date("2026-06-01T12:00:00Z");
const key = new Uint8Array(32).fill(3);
const signer = p256Spki(key);
const platform = createSimulatedPlatform(new Uint8Array(32).fill(1));
const collateral = platform.collateral(NOW);
const zero = new Uint8Array(48);
const quote = parseQuote(
  platform.signQuote({
    mrTd: zero,
    rtmrs: [zero, zero, zero, zero],
    reportData: new Uint8Array(64),
  }),
);
const kind = platformKindOf(quote)!;
const pack = createCollateralPack(new Map([[kind, collateral]]), NOW, key);

test("a pack gives back what was put in, to those who know its signer", () => {
  assert.equal(kind, "tdx/platform/53494d000000"); // FMSPC "SIM", the simulated platform's
  const opened = openCollateralPack(pack, [new Uint8Array(91), signer]);
  assert.deepEqual(opened.collateralFor(quote), collateral);
  assert.equal(opened.createdAt.toISOString(), NOW.toISOString());
  assert.deepEqual(opened.platforms, [kind]);
  assert.ok(isCollateralPack(JSON.parse(pack)));
  assert.ok(!isCollateralPack({ tcb_info: "" }));
});

test("the same pack is the same bytes", () => {
  assert.equal(createCollateralPack(new Map([[kind, collateral]]), NOW, key), pack);
});

test("a pack of a stranger, or changed after it was signed, is refused", () => {
  const refused = { code: "crypto/invalid-signature" };
  assert.throws(() => openCollateralPack(pack, []), refused);
  assert.throws(() => openCollateralPack(pack, [p256Spki(new Uint8Array(32).fill(4))]), refused);
  const later = pack.replace("2026-06-01T12", "2026-06-09T12");
  assert.notEqual(later, pack);
  assert.throws(() => openCollateralPack(later, [signer]), refused);
});

test("a pack that misnames its contents is malformed", () => {
  for (const name of ["tdx/platform/000000000000", "sgx/platform/53494d000000", "tdx", ""]) {
    const wrong = createCollateralPack(new Map([[name, collateral]]), NOW, key);
    assert.throws(() => openCollateralPack(wrong, [signer]), { code: "input/malformed" });
  }
});

parserProperty(
  "openCollateralPack()",
  (bytes) => openCollateralPack(bytes, [signer]),
  () => new TextEncoder().encode(pack),
);
