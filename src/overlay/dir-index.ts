// Which layers of a merged directory have an entry of a given name: a set of name hashes, so that a lookup asks one layer.
// Built by lookup once a directory was asked often enough; lowers never change, additions to the upper are recorded.
// A hash that collides costs one superfluous stat, never a wrong answer.

import { hashName } from '../vfs/names.js';

const SEED = 0;

const POSITIONS = 0x10000;

/** Directories with more names than this are asked layer by layer: their index would cost more than it saves. */
const NAMES_MAX = 300_000;

/** Collects the names of a directory while its layers are listed. */
export class DirIndexBuilder {
  private readonly entries: number[] = [];
  private readonly upperNames: number[] = [];

  /** @param position of the lower in the stack, or -1 for the upper. */
  add(position: number, name: number, length: number): void {
    const hash = hashName(SEED, name, length);
    if (position < 0) this.upperNames.push(hash);
    else this.entries.push(hash * POSITIONS + position);
  }

  /** The index; undefined when the directory is too large for one. */
  finish(): DirIndex | undefined {
    if (this.entries.length + this.upperNames.length > NAMES_MAX) return undefined;
    return DirIndex.of(this.entries, this.upperNames);
  }
}

export class DirIndex {
  /** Hashes of the names that the upper directory has or had since. */
  readonly upperNames = new Set<number>();
  /** Sorted by hash, then by position in the stack. */
  private readonly hashes: Uint32Array;
  private readonly positions: Uint16Array;

  private constructor(hashes: Uint32Array, positions: Uint16Array) {
    this.hashes = hashes;
    this.positions = positions;
  }

  /** @param entries of the lowers: hash * 65536 + position in the stack. @param upperNames hashes of the upper's names. */
  static of(entries: readonly number[], upperNames: readonly number[]): DirIndex {
    const sorted = Float64Array.from(entries).sort();
    const hashes = new Uint32Array(sorted.length);
    const positions = new Uint16Array(sorted.length);
    for (let i = 0; i < sorted.length; i++) {
      const v = sorted[i] as number;
      hashes[i] = Math.floor(v / POSITIONS);
      positions[i] = v % POSITIONS;
    }
    const index = new DirIndex(hashes, positions);
    for (const hash of upperNames) index.upperNames.add(hash);
    return index;
  }

  /** Hash to give to the other methods. */
  static hash(name: number, length: number): number {
    return hashName(SEED, name, length);
  }

  /** First index into the sorted table whose hash is `hash`, or -1. */
  find(hash: number): number {
    const { hashes } = this;
    let low = 0;
    let high = hashes.length;
    while (low < high) {
      const middle = (low + high) >>> 1;
      if ((hashes[middle] as number) < hash) low = middle + 1;
      else high = middle;
    }
    return low < hashes.length && hashes[low] === hash ? low : -1;
  }

  /** Whether the lower at stack position `position` may have the name; `first` from find(). */
  has(first: number, hash: number, position: number): boolean {
    if (first < 0) return false;
    for (let i = first; i < this.hashes.length && this.hashes[i] === hash; i++) {
      if (this.positions[i] === position) return true;
    }
    return false;
  }
}
