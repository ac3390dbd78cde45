import { spawn } from "node:child_process";
import { createInterface } from "node:readline";
import type { Answer, ConformanceCase } from "./case.ts";

/** A case that a verifier answers otherwise than it must. */
export interface Difference {
  readonly case: ConformanceCase;
  /** Undefined: it said nothing. */
  readonly answer: Answer | undefined;
}

/** How exactly an answer must be the expected one: `outcome` for verifiers with reasons of their own. */
export type Strictness = "reason" | "outcome";

export function isRight(
  { expect }: ConformanceCase,
  answer: Answer,
  strictness: Strictness,
): boolean {
  if (strictness === "outcome") {
    // To a verifier without a third answer, what it cannot read is refused.
    const wanted = expect.outcome === "unreadable" ? "refused" : expect.outcome;
    const given = answer.outcome === "unreadable" ? "refused" : answer.outcome;
    return given === wanted && (expect.outcome !== "accepted" || answer.status === expect.status);
  }
  if (answer.outcome !== expect.outcome) return false;
  switch (expect.outcome) {
    case "accepted":
      return answer.status === expect.status;
    case "refused":
      return answer.reason === expect.reason;
    case "unreadable":
      return true;
  }
}

export async function judge(
  cases: Iterable<ConformanceCase>,
  verifier: (one: ConformanceCase) => Answer | Promise<Answer>,
  strictness: Strictness,
): Promise<Difference[]> {
  const differences: Difference[] = [];
  for (const one of cases) {
    const answer = await verifier(one);
    if (!isRight(one, answer, strictness)) differences.push({ case: one, answer });
  }
  return differences;
}

/** Judges a program: it reads a case a line on stdin, as JSON, and writes an answer a line on stdout. */
export async function judgeProgram(
  cases: Iterable<ConformanceCase>,
  argv: readonly string[],
  strictness: Strictness,
): Promise<Difference[]> {
  const [command, ...args] = argv;
  const child = spawn(command!, args, { stdio: ["pipe", "pipe", "inherit"] });
  const ended = new Promise<void>((resolve, reject) => {
    child.on("error", reject);
    child.on("close", (code) => {
      if (code === 0) resolve();
      else reject(new Error(`${command} ended with ${code}`));
    });
  });
  const answers = new Map<string, Answer>();
  createInterface(child.stdout).on("line", (line) => {
    const answer = JSON.parse(line) as Answer;
    answers.set(answer.id, answer);
  });
  const asked: ConformanceCase[] = [];
  child.stdin.on("error", () => {}); // a program that ends early is told by its exit
  for (const one of cases) {
    asked.push(one);
    if (!child.stdin.write(`${JSON.stringify(one)}\n`)) {
      await Promise.race([new Promise((resolve) => child.stdin.once("drain", resolve)), ended]);
    }
  }
  child.stdin.end();
  await ended;
  return asked.flatMap((one) => {
    const answer = answers.get(one.id);
    return answer && isRight(one, answer, strictness) ? [] : [{ case: one, answer }];
  });
}
