// When a server is replaced no more: the rule, and the count of one mount.
// Asked by mount.ts at each end of a server; docs/restart.md tells it to users.
// A server that works and is killed, however often, is replaced; one that cannot work is not tried for ever.

/** So many failures end it: of this kind within FAILURE_WINDOW milliseconds, or of starts without a success between. */
export const FAILURE_LIMIT = 5;
export const FAILURE_WINDOW = 60_000;

/** Milliseconds within which a successor must be ready; then it is killed, which is a failed start. */
export const START_LIMIT = 15_000;

export class Failures {
  readonly #clock: () => number;
  /** When servers ended by themselves. */
  #times: number[] = [];
  /** Successors that never became ready, since the last that did. */
  #starts = 0;

  /** @param clock in milliseconds. */
  constructor(clock: () => number = Date.now) {
    this.#clock = clock;
  }

  /** A server answers requests. */
  ready(): void {
    this.#starts = 0;
  }

  /**
   * A server ended.
   * @param killed not by itself. @param wasReady it had answered requests.
   * @returns why there shall be no other, in words; undefined: there shall.
   */
  count(killed: boolean, wasReady: boolean): string | undefined {
    const now = this.#clock();
    this.#times = this.#times.filter((time) => now - time < FAILURE_WINDOW);
    if (!killed) this.#times.push(now);
    if (!wasReady) this.#starts++;
    if (this.#starts >= FAILURE_LIMIT) return `${this.#starts} successors could not start`;
    if (this.#times.length < FAILURE_LIMIT) return undefined;
    return `${this.#times.length} servers ended within ${FAILURE_WINDOW / 1000} s`;
  }

  /** Somebody has asked for a fresh attempt. */
  forgive(): void {
    this.#times = [];
    this.#starts = 0;
  }
}
