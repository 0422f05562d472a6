// A seeded source of random choices: the same seed gives the same campaign on every machine.
// Used by the generators of layers (layers.ts) and operations (generate.ts).
// Follows: mulberry32, a 32-bit generator in the public domain.

export class Random {
  #state: number;

  constructor(seed: number) {
    this.#state = seed >>> 0;
  }

  /** From 0 to n - 1. */
  below(n: number): number {
    this.#state = (this.#state + 0x6d2b79f5) >>> 0;
    let t = this.#state;
    t = Math.imul(t ^ (t >>> 15), t | 1);
    t ^= t + Math.imul(t ^ (t >>> 7), t | 61);
    return Math.floor((((t ^ (t >>> 14)) >>> 0) / 4_294_967_296) * n);
  }

  /** True once in n times. */
  oneIn(n: number): boolean {
    return this.below(n) === 0;
  }

  pick<T>(choices: readonly T[]): T {
    return choices[this.below(choices.length)] as T;
  }

  /** A key of a table of weights. */
  weighted<K extends string>(weights: readonly (readonly [K, number])[]): K {
    let at = this.below(weights.reduce((sum, [, weight]) => sum + weight, 0));
    for (const [key, weight] of weights) {
      at -= weight;
      if (at < 0) return key;
    }
    throw new Error('no weights');
  }
}
