import process from "node:process";
import type { ConformanceCase } from "./case.ts";
import { conformanceCases } from "./cases.ts";
import { judgeProgram, type Strictness } from "./judge.ts";
import { ourAnswer } from "./ours.ts";
import { phalaAnswer } from "./phala-dcap-qvl.ts";
import { answerLines } from "./program.ts";
import { phalaTable } from "./table.ts";

const USAGE = `Usage: scripts/conformance <command>
  cases [kind]                     every case, one JSON a line (kinds: quote, binding, cvm, snp, nitro)
  judge [--reasons] [--kind K] -- PROGRAM [ARG]...
                                   ask a program that reads cases and writes answers, one JSON a line;
                                   exit 1 when it answers one otherwise. --reasons compares reason codes too
  answer ours|phala-dcap-qvl       be such a program
  table                            the differences of @phala/dcap-qvl, as docs/conformance.md has them
`;

const [command, ...rest] = process.argv.slice(2);

function* casesOf(kind: string | undefined): Generator<ConformanceCase> {
  for (const one of conformanceCases()) {
    if (kind === undefined || one.kind === kind) yield one;
  }
}

async function judge(argv: readonly string[]): Promise<number> {
  const split = argv.indexOf("--");
  const options = split === -1 ? [] : argv.slice(0, split);
  const program = argv.slice(split + 1);
  if (split === -1 || program.length === 0) return usage();
  const strictness: Strictness = options.includes("--reasons") ? "reason" : "outcome";
  const kindAt = options.indexOf("--kind");
  const cases = [...casesOf(kindAt === -1 ? undefined : options[kindAt + 1])];
  const differences = await judgeProgram(cases, program, strictness);
  for (const { case: { id, expect }, answer } of differences) {
    process.stdout.write(`${JSON.stringify({ id, expect, answer: answer ?? null })}\n`);
  }
  process.stderr.write(
    `${cases.length - differences.length} of ${cases.length} answers are right\n`,
  );
  return differences.length === 0 ? 0 : 1;
}

function usage(): number {
  process.stderr.write(USAGE);
  return 2;
}

switch (command) {
  case "cases":
    for (const one of casesOf(rest[0])) process.stdout.write(`${JSON.stringify(one)}\n`);
    break;
  case "judge":
    process.exitCode = await judge(rest);
    break;
  case "answer":
    if (rest[0] === "ours") await answerLines(ourAnswer);
    else if (rest[0] === "phala-dcap-qvl") await answerLines(phalaAnswer);
    else process.exitCode = usage();
    break;
  case "table":
    process.stdout.write(await phalaTable());
    break;
  default:
    process.exitCode = usage();
}
