import assert from "node:assert/strict";
import { test } from "node:test";
import type { Verdict } from "#core/attestation/verdict.ts";
import { collateralToJson } from "#core/tdx/collateral.ts";
import { encodeAttestation } from "#core/attestation/versioned-attestation.ts";
import { simulatedCvm } from "../tests/simulated-cvm.ts";
import { terminal } from "./terminal.fixture.ts";

const NOW = new Date("2026-06-01T12:00:00Z");
const cvm = simulatedCvm();
const { platform } = cvm.attestation;
const quote = platform.kind === "tdx" ? platform.quote : new Uint8Array();
const other = cvm.platform.collateral(NOW);

const files = {
  "q.bin": quote,
  "cvm.bin": encodeAttestation(cvm.attestation),
  "root.pem": cvm.platform.rootCertificatePem,
  "c.json": JSON.stringify(collateralToJson(other)),
};
const VERIFY = ["verify", "quote", "--quote", "q.bin", "--root", "root.pem", "--simulated"];

test("a pack that was made here is verified with, when its signer is named", async () => {
  const { dstack } = terminal({ files, now: NOW });
  const { stdout: signer } = await dstack("collateral", "keygen", "--out", "key.pem");
  const made = await dstack(
    ...["collateral", "pack", "--key", "key.pem", "--out", "pack.json"],
    ...["--collateral", "c.json", "--json", "q.bin"],
  );
  assert.deepEqual(JSON.parse(made.stdout), {
    platforms: ["tdx/platform/53494d000000"],
    signer: signer.trim(),
  });
  const packed = [...VERIFY, "--collateral", "pack.json", "--pack-signer"];
  assert.equal((await dstack(...packed, signer.trim())).code, 0);
  assert.equal((await dstack(...VERIFY, "--collateral", "pack.json")).code, 2);
  const { stdout: stranger } = await dstack("collateral", "keygen", "--out", "key2.pem");
  const refused = await dstack(...packed, stranger.trim());
  assert.deepEqual([refused.code, refused.stdout], [3, ""]);
  assert.match(refused.stderr, /signed by a stranger/);
});

test("how old collateral may be, and how long past its end, is the user's to say", async () => {
  const at = async (time: string, ...argv: string[]) => {
    const { dstack } = terminal({ files, now: new Date(time) });
    const { stdout } = await dstack(...VERIFY, "--collateral", "c.json", "--json", ...argv);
    const { outcome, reason } = JSON.parse(stdout) as Verdict;
    return reason?.code ?? outcome;
  };
  const week = "2026-06-08T00:00:00Z"; // issued at 2026-05-31T00:00:00Z
  assert.equal(await at(week, "--max-collateral-age", "8d"), "accepted");
  assert.equal(await at(week, "--max-collateral-age", "7d"), "collateral-too-old");
  const late = "2026-07-01T12:00:00Z"; // ends at 2026-07-01T00:00:00Z
  assert.equal(await at(late), "crl-expired");
  assert.equal(await at(late, "--collateral-grace", "12h"), "accepted");
  assert.equal(await at(late, "--collateral-grace", "11h"), "crl-expired");
});
