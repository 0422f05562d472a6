// Which layers of a merged directory have an entry of a given name: a set of name hashes, so that a lookup asks one layer.
// Built by lookup once a directory was asked often enough; lowers never change, additions to the upper are recorded.
// A hash that collides costs one superfluous stat, never a wrong answer.

import type { Layer } from '../layer/layer.js';
import { hashName } from '../vfs/names.js';

const SEED = 0;

export class DirIndex {
  /** Hashes of the names that the upper directory has or had since; undefined when it has no upper. */
  readonly upperNames = new Set<number>();
  /** Sorted by hash, then by position in the stack. */
  private readonly hashes: Uint32Array;
  private readonly positions: Uint16Array;

  private constructor(hashes: Uint32Array, positions: Uint16Array) {
    this.hashes = hashes;
    this.positions = positions;
  }

  /**
   * Lists the directory in every layer.
   * @param stack pairs of layer and directory record, topmost lower first. @returns undefined when one cannot be listed.
   */
  static build(
    upper: Layer | undefined,
    upperDir: number,
    stack: readonly (readonly [Layer, number])[],
  ): DirIndex | undefined {
    const entries: number[] = [];
    for (let position = 0; position < stack.length; position++) {
      const [layer, dir] = stack[position] as readonly [Layer, number];
      const r = layer.list(dir, (name, length) => {
        entries.push(hashName(SEED, name, length) * 0x10000 + position);
      });
      if (r < 0) return undefined;
    }
    const sorted = Float64Array.from(entries).sort();
    const hashes = new Uint32Array(sorted.length);
    const positions = new Uint16Array(sorted.length);
    for (let i = 0; i < sorted.length; i++) {
      const v = sorted[i] as number;
      hashes[i] = Math.floor(v / 0x10000);
      positions[i] = v % 0x10000;
    }
    const index = new DirIndex(hashes, positions);
    if (upper !== undefined && upperDir !== 0) {
      const r = upper.list(upperDir, (name, length) => {
        index.upperNames.add(hashName(SEED, name, length));
      });
      if (r < 0) return undefined;
    }
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
