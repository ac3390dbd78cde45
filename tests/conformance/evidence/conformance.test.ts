import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import process from "node:process";
import { test } from "node:test";
import { fileURLToPath } from "node:url";
import { CHECK_IDS } from "#core/attestation/verdict.ts";
import { REFUSAL_REASONS } from "#core/errors/refusal.ts";
import type { ConformanceCase } from "./case.ts";
import { conformanceCases } from "./cases.ts";
import { type Difference, judge, judgeProgram } from "./judge.ts";
import { ourAnswer } from "./ours.ts";
import { phalaTable } from "./table.ts";

const cases = [...conformanceCases()];
const PROGRAM = fileURLToPath(new URL("main.ts", import.meta.url));

function report(differences: readonly Difference[]): string[] {
  return differences.map(({ case: { id, expect }, answer }) =>
    `${id}: must be ${JSON.stringify(expect)}, is ${JSON.stringify(answer)}`
  );
}

const groupOf = ({ id }: ConformanceCase) => id.split("/").slice(0, 2).join(" ");
for (const group of new Set(cases.map(groupOf))) {
  const own = cases.filter((one) => groupOf(one) === group);
  test(`our verifier answers ${own.length} cases of ${group} as it must`, async () => {
    assert.deepEqual(report(await judge(own, ourAnswer, "reason")), []);
  });
}

test("the kit is as large as it says, and each case has a name of its own", () => {
  const refused = cases.filter(({ expect }) => expect.outcome === "refused");
  assert.ok(cases.length >= 1500, `${cases.length} cases`);
  assert.ok(refused.length >= 1000, `${refused.length} refused`);
  assert.equal(new Set(cases.map(({ id }) => id)).size, cases.length);
});

/** Reasons that TPMs, GPUs and ACPI tables give: tests beside their code try those. */
const NOT_HERE = [
  "tpm-quote-mismatch",
  "tpm-quote-unbound",
  "gpu-attestation-malformed",
  "gpu-attestation-mismatch",
  "gpu-mode-not-allowed",
  "acpi-tables-mismatch",
];

test("every reason a quote or CVM can be refused for has a case", () => {
  const given = new Set(
    cases.flatMap(({ expect }) => expect.outcome === "refused" ? [expect.reason] : []),
  );
  const without = Object.entries(REFUSAL_REASONS)
    .filter(([code, check]) => !given.has(code) && (CHECK_IDS as readonly string[]).includes(check))
    .map(([code]) => code);
  assert.deepEqual(without, NOT_HERE);
});

test("a program is judged by what it writes", async () => {
  const some = cases.filter((_, i) => i % 25 === 0);
  const argv = [process.execPath, PROGRAM, "answer", "ours"];
  assert.deepEqual(report(await judgeProgram(some, argv, "reason")), []);
  const silent = [process.execPath, "-e", "process.stdin.resume()"];
  assert.equal((await judgeProgram(some, silent, "outcome")).length, some.length);
  const yes = 'require("readline").createInterface(process.stdin).on("line", (l) => ' +
    'console.log(JSON.stringify({ id: JSON.parse(l).id, outcome: "accepted", status: "UpToDate" })))';
  const wrong = await judgeProgram(some, [process.execPath, "-e", yes], "outcome");
  assert.ok(wrong.length > some.length / 2);
  await assert.rejects(judgeProgram(some, [process.execPath, "-e", "process.exit(3)"], "outcome"));
});

test("docs/conformance.md says how @phala/dcap-qvl differs", async () => {
  const doc = readFileSync(new URL("../../../docs/conformance.md", import.meta.url), "utf8");
  const table = await phalaTable();
  assert.ok(doc.includes(table), `scripts/conformance table says:\n${table}`);
});
