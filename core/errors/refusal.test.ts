import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { test } from "node:test";
import { AppError } from "./app-error.ts";
import { reasonOf, refusal, REFUSAL_REASONS, refusing } from "./refusal.ts";

test("docs/verdict.md lists every reason code beside its check", () => {
  const text = readFileSync(new URL("../../docs/verdict.md", import.meta.url), "utf8");
  const rows = text.split("\n## ")[0]!.split("\n").filter((line) => line.startsWith("| ")).map((
    line,
  ) => line.split("|").map((cell) => cell.trim()));
  const listed = rows.slice(1).flatMap(([, check, , codes]) =>
    codes!.split(", ").map((code) => `${check}: ${code}`)
  );
  const known = Object.entries(REFUSAL_REASONS).map(([code, check]) => `${check}: ${code}`);
  assert.deepEqual(listed.sort(), known.sort());
});

test("refusing() turns malformed input into a refusal and lets other errors pass", () => {
  const malformed = new AppError("input/malformed", "no");
  const broken = new TypeError("bug");
  const thrown = (error: unknown) => {
    try {
      refusing("evidence-malformed", () => {
        throw error;
      });
    } catch (result) {
      return result;
    }
    return undefined;
  };
  assert.deepEqual(reasonOf(thrown(malformed)), {
    code: "evidence-malformed",
    check: "evidence-format",
    detail: "no",
  });
  assert.equal(thrown(broken), broken);
  const earlier = refusal("crl-expired", "late");
  assert.equal(thrown(earlier), earlier);
  assert.equal(reasonOf(broken), undefined);
});
