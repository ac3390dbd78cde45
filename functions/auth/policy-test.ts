import { z } from "zod";
import { AppError } from "#core/errors/app-error.ts";
import type { Allowlist } from "./allowlist.ts";
import { bootInfoSchema } from "./boot-info.ts";
import { applyRules } from "./policy.ts";

const casesSchema = z.array(z.strictObject({
  name: z.string(),
  role: z.enum(["app", "kms"]),
  boot: bootInfoSchema,
  expect: z.enum(["allow", "deny"]),
  /** The reason a denial must have. */
  reason: z.string().optional(),
}));

export interface CaseOutcome {
  readonly name: string;
  /** Whether it was decided as expected. */
  readonly ok: boolean;
  readonly text: string;
}

/** Decides each case of a JSON document with the allowlist and explains it. Throws `input/malformed`. */
export function runPolicyCases(text: string, allowlist: Allowlist): CaseOutcome[] {
  let document: unknown;
  try {
    document = JSON.parse(text);
  } catch (cause) {
    throw new AppError("input/malformed", "The cases are not JSON", { cause });
  }
  const parsed = casesSchema.safeParse(document);
  if (!parsed.success) {
    const faults = parsed.error.issues.map(({ path, message }) => `${path.join(".")}: ${message}`);
    throw new AppError("input/malformed", `Cannot use the cases: ${faults.join("; ")}`);
  }
  return parsed.data.map(({ name, role, boot, expect, reason }) => {
    const rules = applyRules(role, boot, allowlist);
    const denied = rules.find(({ passed }) => !passed);
    const ok = (denied === undefined) === (expect === "allow") &&
      (reason === undefined || reason === denied?.reason);
    const text = denied === undefined
      ? `allowed: all ${rules.length} rules pass`
      : `denied: ${denied.reason}; to allow it, ${denied.remedy}`;
    const expected = reason === undefined ? expect : `${expect} (${reason})`;
    return { name, ok, text: ok ? text : `${text}; expected: ${expected}` };
  });
}
