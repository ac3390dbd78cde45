import { AppError } from "#core/errors/app-error.ts";

export interface CircuitBreakerOptions {
  /** Named in errors: `auth api`. */
  readonly name: string;
  readonly now: () => Date;
  /** So many failures in a row, and it is not asked for a while. */
  readonly failures?: number;
  /** For this long, milliseconds; then one call tries. */
  readonly pauseMs?: number;
}

/**
 * Keeps calls away from a service that does not answer, so that they fail at once and it can recover.
 * While it is open they throw `upstream/unavailable` with reason `circuit-open`.
 */
export class CircuitBreaker {
  readonly #options: Required<CircuitBreakerOptions>;
  #failures = 0;
  #openUntil = 0;
  #probing = false;

  constructor(options: CircuitBreakerOptions) {
    this.#options = { failures: 5, pauseMs: 10_000, ...options };
  }

  get isOpen(): boolean {
    return this.#options.now().getTime() < this.#openUntil;
  }

  /** `isFailure`: whether what was thrown means that the service is down; other errors are answers. */
  async run<T>(call: () => Promise<T>, isFailure: (error: unknown) => boolean): Promise<T> {
    const tripped = this.#failures >= this.#options.failures;
    if (this.isOpen || tripped && this.#probing) {
      throw new AppError("upstream/unavailable", `${this.#options.name} is not asked for a while`, {
        fields: { reason: "circuit-open" },
      });
    }
    this.#probing = tripped;
    try {
      const result = await call();
      this.#failures = 0;
      return result;
    } catch (error) {
      if (!isFailure(error)) {
        this.#failures = 0;
        throw error;
      }
      this.#failures++;
      if (this.#failures >= this.#options.failures) {
        this.#openUntil = this.#options.now().getTime() + this.#options.pauseMs;
      }
      throw error;
    } finally {
      this.#probing = false;
    }
  }
}
