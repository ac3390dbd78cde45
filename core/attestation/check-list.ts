import { reasonOf, refusal, type RefusalReason } from "../errors/refusal.ts";
import { type Check, CHECK_IDS, type CheckId } from "./verdict.ts";

/** Collects the checks of one appraisal and the first reason to refuse. */
export class CheckList {
  readonly #checks = new Map<CheckId, Check>();
  readonly #lacking = new Set<CheckId>();
  #reason: RefusalReason | null = null;

  pass(id: CheckId, detail: string): void {
    this.#add({ id, result: "passed", detail });
  }

  notApplicable(id: CheckId, detail: string): void {
    this.#add({ id, result: "not-applicable", detail });
  }

  /** This TEE has nothing of the kind, in no evidence: a policy that requires the check means other TEEs. */
  lacks(id: CheckId, detail: string): void {
    this.#lacking.add(id);
    this.notApplicable(id, detail);
  }

  notChecked(id: CheckId, detail: string): void {
    this.#add({ id, result: "not-checked", detail });
  }

  hasPassed(id: CheckId): boolean {
    return this.#checks.get(id)?.result === "passed";
  }

  /** Runs a step; a refusal fails the check its reason belongs to, any other error goes on. */
  attempt<T>(step: () => T): T | undefined {
    try {
      return step();
    } catch (error) {
      this.#fail(error);
      return undefined;
    }
  }

  async attemptAsync<T>(step: () => Promise<T>): Promise<T | undefined> {
    try {
      return await step();
    } catch (error) {
      this.#fail(error);
      return undefined;
    }
  }

  /** Fails the `policy` check when a required check did not pass; the reason is the first failure. */
  requireAll(required: readonly CheckId[]): void {
    const missing = required.filter((id) =>
      this.#checks.get(id)?.result !== "passed" && !this.#lacking.has(id)
    );
    if (missing.length === 0) {
      this.pass("policy", "Every required check passed");
    } else {
      const detail = `Required checks did not pass: ${missing.join(", ")}`;
      this.#fail(refusal("required-check-not-run", detail));
    }
  }

  /** Every check in order. What nothing was said about could not run after an earlier failure. */
  finish(): { readonly reason: RefusalReason | null; readonly list: readonly Check[] } {
    const list = CHECK_IDS.map((id): Check =>
      this.#checks.get(id) ??
        { id, result: "not-checked", detail: "An earlier check failed" }
    );
    return { reason: this.#reason, list };
  }

  #fail(error: unknown): void {
    const reason = reasonOf(error);
    if (!reason) throw error;
    this.#reason ??= reason;
    this.#checks.set(reason.check, { id: reason.check, result: "failed", detail: reason.detail });
  }

  /** A failure is never overwritten. */
  #add(check: Check): void {
    if (this.#checks.get(check.id)?.result !== "failed") this.#checks.set(check.id, check);
  }
}
