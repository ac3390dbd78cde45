import process from "node:process";
import { createInterface } from "node:readline";
import type { Answer, ConformanceCase } from "./case.ts";

/** Makes a program for `judgeProgram` of a function: cases on stdin, answers on stdout, one JSON a line. */
export async function answerLines(
  verifier: (one: ConformanceCase) => Answer | Promise<Answer>,
): Promise<void> {
  for await (const line of createInterface(process.stdin)) {
    const answer = await verifier(JSON.parse(line) as ConformanceCase);
    process.stdout.write(`${JSON.stringify(answer)}\n`);
  }
}
