/** Runs tasks one after another in the order they came; a failed task does not stop the next. */
export class SerialQueue {
  #last: Promise<unknown> = Promise.resolve();
  #pending = 0;

  /** Whether a task runs or waits. */
  get busy(): boolean {
    return this.#pending > 0;
  }

  run<T>(task: () => Promise<T>): Promise<T> {
    this.#pending += 1;
    const result = this.#last.then(task, task).finally(() => this.#pending -= 1);
    this.#last = result.catch(() => {}); // the caller of run() gets the failure
    return result;
  }
}
