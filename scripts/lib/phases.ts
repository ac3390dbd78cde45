/** The phases of a long command: shown as they go on stderr, timed, and given back for `--json`. */
import process from "node:process";

export interface PhaseTime {
  readonly name: string;
  readonly seconds: number;
}

export class Phases {
  readonly #done: PhaseTime[] = [];
  readonly #live = process.stderr.isTTY === true;
  #detail = "";

  get times(): readonly PhaseTime[] {
    return this.#done;
  }

  /** What the running phase is at right now, such as a boot step of the VM. */
  detail(text: string): void {
    if (text === this.#detail) return;
    this.#detail = text;
    if (!this.#live) process.stderr.write(`    ${text}\n`);
  }

  async run<T>(name: string, work: () => Promise<T>): Promise<T> {
    const startedMs = performance.now();
    this.#detail = "";
    const elapsed = () => (performance.now() - startedMs) / 1000;
    const line = (mark: string) => {
      const detail = this.#detail && mark !== "✓" ? ` — ${this.#detail}` : "";
      return `${mark} ${name.padEnd(34)} ${elapsed().toFixed(1).padStart(6)} s${detail}`;
    };
    let frame = 0;
    const draw = () => {
      const width = Math.max((process.stderr.columns ?? 80) - 1, 20);
      process.stderr.write(`\r\u001b[2K${line("⠋⠙⠹⠸⠼⠴⠦⠧⠇⠏"[frame++ % 10]!).slice(0, width)}`);
    };
    const timer = this.#live ? setInterval(draw, 120) : undefined;
    if (!this.#live) process.stderr.write(`… ${name}\n`);
    const end = (mark: string) => {
      clearInterval(timer);
      process.stderr.write(`${this.#live ? "\r\u001b[2K" : ""}${line(mark)}\n`);
    };
    try {
      const result = await work();
      end("✓");
      this.#done.push({ name, seconds: Math.round(elapsed() * 10) / 10 });
      return result;
    } catch (error) {
      end("✗");
      throw error;
    }
  }
}
