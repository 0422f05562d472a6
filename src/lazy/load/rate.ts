// Bytes a second over the last seconds, for status and for the size of requests.
// Kept by queue.ts for a layer and by scheduler.ts for all.
// Buckets of half a second.

const BUCKET = 500;
const BUCKETS = 10;

export class Rate {
  readonly #clock: () => number;
  readonly #sums = new Array<number>(BUCKETS).fill(0);
  readonly #begin: number;
  #at: number;
  total = 0;

  /** @param clock milliseconds. */
  constructor(clock: () => number) {
    this.#clock = clock;
    this.#begin = Math.floor(clock() / BUCKET);
    this.#at = this.#begin;
  }

  add(bytes: number): void {
    this.#turn();
    this.#sums[this.#at % BUCKETS] = (this.#sums[this.#at % BUCKETS] as number) + bytes;
    this.total += bytes;
  }

  /** Bytes a second. */
  get value(): number {
    this.#turn();
    const buckets = Math.min(BUCKETS, this.#at - this.#begin + 1);
    const sum = this.#sums.reduce((a, b) => a + b, 0);
    return Math.round((sum * 1000) / (buckets * BUCKET));
  }

  #turn(): void {
    const now = Math.floor(this.#clock() / BUCKET);
    if (now - this.#at >= BUCKETS) this.#sums.fill(0);
    else while (this.#at < now) this.#sums[++this.#at % BUCKETS] = 0;
    this.#at = now;
  }
}
