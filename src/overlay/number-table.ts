// Inode numbers in which directory: a hash table of 16 bytes an object, and the directories that are known as a whole.
// Filled and asked by export-search.ts. What it says may be old: who uses it looks whether it is still so.
// Open addressing with linear probing, at most three quarters full.

const WORDS = 4;
const HI = 0x1_0000_0000;

/** A number as a key of Map and Set: exact. */
export type NumberKey = number | string;

export function keyOf(lo: number, hi: number): NumberKey {
  return hi < 0x20_0000 ? hi * HI + lo : `${hi}:${lo}`;
}

/** A number in halves. */
export type Halves = readonly [lo: number, hi: number];

/** The halves of a key. */
export function halvesOf(key: NumberKey): Halves {
  if (typeof key === 'number') return [key % HI, Math.floor(key / HI)];
  const [hi, lo] = key.split(':').map(Number);
  return [lo as number, hi as number];
}

export class NumberTable {
  #slots = 1024;
  #words = new Uint32Array(1024 * WORDS);
  #size = 0;
  /** Further directories of objects with names in several. */
  readonly #more = new Map<NumberKey, Halves[]>();

  get size(): number {
    return this.#size;
  }

  /** The directories said to have an object of this number, the last word first. */
  find(lo: number, hi: number): Halves[] {
    const k = this.#place(lo, hi);
    const parentLo = this.#words[k + 2] as number;
    const parentHi = this.#words[k + 3] as number;
    if ((parentLo | parentHi) === 0) return [];
    return [[parentLo, parentHi], ...(this.#more.get(keyOf(lo, hi)) ?? [])];
  }

  /** Notes that directory `parent` has an object of this number; what was said before stays, as a further one. */
  set(lo: number, hi: number, parentLo: number, parentHi: number): void {
    if (this.#size * 4 > this.#slots * 3) this.#grow();
    const k = this.#place(lo, hi);
    const words = this.#words;
    const oldLo = words[k + 2] as number;
    const oldHi = words[k + 3] as number;
    if ((oldLo | oldHi) === 0) this.#size++;
    else if (oldLo !== parentLo || oldHi !== parentHi) this.#keep(lo, hi, oldLo, oldHi);
    words[k] = lo;
    words[k + 1] = hi;
    words[k + 2] = parentLo;
    words[k + 3] = parentHi;
  }

  clear(): void {
    this.#more.clear();
    this.#slots = 1024;
    this.#words = new Uint32Array(1024 * WORDS);
    this.#size = 0;
  }

  #keep(lo: number, hi: number, parentLo: number, parentHi: number): void {
    const key = keyOf(lo, hi);
    const known = this.#more.get(key) ?? [];
    if (known.some(([l, h]) => l === parentLo && h === parentHi)) return;
    this.#more.set(key, [...known, [parentLo, parentHi]]);
  }

  /** Index of the record of a number, or of the free one where it belongs: no directory has the number 0. */
  #place(lo: number, hi: number): number {
    const words = this.#words;
    let slot = (Math.imul(lo ^ Math.imul(hi, 0x85ebca6b), 0x9e3779b1) >>> 7) & (this.#slots - 1);
    for (;;) {
      const k = slot * WORDS;
      if (((words[k + 2] as number) | (words[k + 3] as number)) === 0) return k;
      if (words[k] === lo && words[k + 1] === hi) return k;
      slot = (slot + 1) & (this.#slots - 1);
    }
  }

  #grow(): void {
    const old = this.#words;
    this.#slots *= 2;
    this.#words = new Uint32Array(this.#slots * WORDS);
    this.#size = 0;
    for (let k = 0; k < old.length; k += WORDS) {
      const parentLo = old[k + 2] as number;
      const parentHi = old[k + 3] as number;
      if ((parentLo | parentHi) === 0) continue;
      this.set(old[k] as number, old[k + 1] as number, parentLo, parentHi);
    }
  }
}
