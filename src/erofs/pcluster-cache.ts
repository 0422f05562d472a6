// Decompressed pclusters, the least recently used thrown out: a bounded amount whatever is read.
// Used by data.ts for what is not asked for as a whole: small reads, and the ends of large ones.

/** What a pcluster holds, from its first byte on. */
export interface Decoded {
  /** Bytes from 0 on; the buffer may be longer. */
  readonly bytes: Uint8Array;
  /** How many of them are there. */
  length: number;
}

/** Buffers are reused, by powers of two from this size on. */
const LEAST_BUFFER = 16 * 1024;
/** Freed buffers kept of each size. */
const MOST_SPARE = 4;

export class PclusterCache {
  readonly #limit: number;
  readonly #entries = new Map<number, Decoded>();
  readonly #spare = new Map<number, Uint8Array[]>();
  #used = 0;
  /** The entry that was used last: most reads go on where the one before ended. */
  #lastKey = -1;
  #last: Decoded | undefined;

  /** @param limit bytes, all buffers together (spare ones aside). One entry stays, however large. */
  constructor(limit: number) {
    this.#limit = limit;
  }

  get(key: number): Decoded | undefined {
    if (key === this.#lastKey) return this.#last;
    const entry = this.#entries.get(key);
    if (entry === undefined) return undefined;
    this.#entries.delete(key);
    this.#entries.set(key, entry);
    this.#lastKey = key;
    this.#last = entry;
    return entry;
  }

  /** A new entry of at least `size` bytes, its length still 0; what was there goes. */
  add(key: number, size: number): Decoded {
    this.delete(key);
    let capacity = LEAST_BUFFER;
    while (capacity < size) capacity *= 2;
    for (const oldest of this.#entries.keys()) {
      if (this.#used + capacity <= this.#limit) break;
      this.delete(oldest);
    }
    const bytes = this.#spare.get(capacity)?.pop() ?? new Uint8Array(capacity);
    const entry = { bytes, length: 0 };
    this.#entries.set(key, entry);
    this.#used += capacity;
    this.#lastKey = key;
    this.#last = entry;
    return entry;
  }

  delete(key: number): void {
    const entry = this.#entries.get(key);
    if (entry === undefined) return;
    this.#entries.delete(key);
    const capacity = entry.bytes.length;
    this.#used -= capacity;
    if (this.#lastKey === key) {
      this.#lastKey = -1;
      this.#last = undefined;
    }
    let spare = this.#spare.get(capacity);
    if (spare === undefined) this.#spare.set(capacity, (spare = []));
    if (spare.length < MOST_SPARE && capacity * MOST_SPARE <= this.#limit / 4) {
      spare.push(entry.bytes);
    }
  }
}
