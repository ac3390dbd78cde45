/** `[cvm.auto_restart]`, all times in seconds. */
export interface RestartPolicy {
  readonly maxRetries: number;
  readonly initialBackoff: number;
  readonly maxBackoff: number;
  /** Running this long without a break makes the budget whole again. */
  readonly resetWindow: number;
}

export type RestartDecision =
  | { readonly kind: "wait" }
  | { readonly kind: "scheduled"; readonly delay: number }
  | { readonly kind: "restart"; readonly attempt: number; readonly nextDelay: number }
  | { readonly kind: "exhausted"; readonly attempts: number };

/** Decides when a VM that should run but does not is started again (spec/vmm.md section 6.9). */
export class RestartBudget {
  readonly #policy: RestartPolicy;
  #attempts = 0;
  #dueAt: number | undefined;
  #exhausted = false;
  #runningSince: number | undefined;

  constructor(policy: RestartPolicy) {
    this.#policy = policy;
  }

  /** `now` in seconds. */
  observeStopped(now: number): RestartDecision {
    this.#runningSince = undefined;
    const { maxRetries } = this.#policy;
    if (this.#exhausted) return { kind: "wait" };
    if (this.#dueAt === undefined) {
      const delay = this.#delay();
      this.#dueAt = now + delay;
      return { kind: "scheduled", delay };
    }
    if (this.#attempts >= maxRetries) {
      this.#exhausted = true;
      return { kind: "exhausted", attempts: this.#attempts };
    }
    if (now < this.#dueAt) return { kind: "wait" };
    this.#attempts += 1;
    const nextDelay = this.#delay();
    this.#dueAt = now + nextDelay;
    return { kind: "restart", attempt: this.#attempts, nextDelay };
  }

  observeRunning(now: number): void {
    this.#runningSince ??= now;
    if (now - this.#runningSince >= this.#policy.resetWindow) this.reset();
  }

  /** A manual start or stop. */
  reset(): void {
    this.#attempts = 0;
    this.#dueAt = undefined;
    this.#exhausted = false;
  }

  #delay(): number {
    const { initialBackoff, maxBackoff } = this.#policy;
    return Math.min(initialBackoff * 2 ** this.#attempts, maxBackoff);
  }
}
