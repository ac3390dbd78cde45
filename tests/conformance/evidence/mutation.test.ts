import assert from "node:assert/strict";
import { test } from "node:test";
import { hostCrypto } from "#adapters/crypto.ts";
import { appraise } from "#core/attestation/appraise.ts";
import { policyWith, QUOTE_POLICY } from "#core/attestation/policy.ts";
import { INTEL_TRUST_ANCHOR, parseTrustAnchor } from "#core/attestation/trust-anchor.ts";
import { TCB_STATUSES } from "#core/tdx/tcb-status.ts";
import { parseCollateralJson, type QuoteCollateral } from "#core/tdx/collateral.ts";
import { EndorsementCache } from "#core/tdx/endorsement-cache.ts";
import { vectorBytes, vectorTest, vectorText } from "../../vectors.ts";
import { build, goodScene, NOW, SCENE_KINDS } from "./scene.ts";

/**
 * Flips a bit in every byte of a quote and in every character or byte of its collateral, one at a time.
 * A mutant that is accepted is a byte that nobody checks; there is none, and none is excused.
 */
interface Subject {
  readonly quote: Uint8Array;
  readonly collateral: QuoteCollateral;
  readonly root: ReturnType<typeof parseTrustAnchor>;
  readonly now: Date;
}

const POLICY = policyWith({
  allowedTcbStatuses: TCB_STATUSES.filter((status) => status !== "Revoked"),
  allowedAdvisories: "any",
}, QUOTE_POLICY);

async function isAccepted(
  { quote, collateral, root, now }: Subject,
  endorsements?: EndorsementCache,
): Promise<boolean> {
  const { outcome } = await appraise({
    attestation: { quote },
    collateral,
    trustAnchors: [root],
    policy: POLICY,
    now,
    crypto: hostCrypto,
    ...(endorsements && { endorsements }),
  });
  return outcome === "accepted";
}

/** Where a flip was accepted. */
async function acceptedQuoteMutants(subject: Subject): Promise<string[]> {
  const endorsements = new EndorsementCache();
  assert.ok(await isAccepted(subject, endorsements));
  const accepted: string[] = [];
  for (let at = 0; at < subject.quote.length; at++) {
    const quote = subject.quote.slice();
    quote[at]! ^= 1 << (at % 8);
    if (await isAccepted({ ...subject, quote }, endorsements)) accepted.push(`quote[${at}]`);
  }
  return accepted;
}

async function acceptedCollateralMutants(subject: Subject): Promise<string[]> {
  assert.ok(await isAccepted(subject));
  const accepted: string[] = [];
  for (const member of Object.keys(subject.collateral) as (keyof QuoteCollateral)[]) {
    const value = subject.collateral[member]!;
    for (let at = 0; at < value.length; at++) {
      const collateral = { ...subject.collateral, [member]: flipped(value, at) };
      if (await isAccepted({ ...subject, collateral })) accepted.push(`${member}[${at}]`);
    }
  }
  return accepted;
}

function flipped(value: string | Uint8Array, at: number): string | Uint8Array {
  const bit = 1 << (at % 7);
  if (typeof value === "string") {
    const char = String.fromCharCode(value.charCodeAt(at) ^ bit);
    return value.slice(0, at) + char + value.slice(at + 1);
  }
  const bytes = value.slice();
  bytes[at]! ^= bit;
  return bytes;
}

function ownSubject(kind: (typeof SCENE_KINDS)[number]): Subject {
  const { quote, collateral, root } = build(goodScene(kind));
  return {
    quote,
    collateral: parseCollateralJson(JSON.stringify(collateral)),
    root: parseTrustAnchor("own", root),
    now: new Date(NOW * 1000),
  };
}

const captured = (name: string, now: string): Subject => ({
  quote: vectorBytes(`intel/${name}`),
  collateral: parseCollateralJson(vectorText(`intel/${name}_collateral.json`)),
  root: INTEL_TRUST_ANCHOR,
  now: new Date(now),
});

for (const kind of SCENE_KINDS) {
  test(`no byte of a ${kind} quote can change`, async () => {
    assert.deepEqual(await acceptedQuoteMutants(ownSubject(kind)), []);
  });
}

test("no byte of collateral can change", async () => {
  assert.deepEqual(await acceptedCollateralMutants(ownSubject("tdx-v4")), []);
});

for (const name of ["tdx_quote", "sgx_quote"]) {
  vectorTest(`no byte of the captured ${name} can change`, async () => {
    const subject = captured(name, "2025-07-01T00:00:00Z");
    assert.deepEqual(await acceptedQuoteMutants(subject), []);
  });
}

vectorTest("no byte of captured collateral can change", async () => {
  const subject = captured("tdx_quote", "2025-07-01T00:00:00Z");
  assert.deepEqual(await acceptedCollateralMutants(subject), []);
});
