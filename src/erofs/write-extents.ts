// What is known of a compressed file once its data is written: extents and how they are indexed.
// Filled by write-data.ts, read by write-meta.ts; all extents of an image stand in one array of numbers.
// Nothing here is on disk; index-encode.ts makes the bytes.

import { EXTENT_WORDS, type FileIndex, indexBytes, indexPadding } from './index-encode.js';
import type { InodePlan } from './plan.js';

/** Extents of all files, EXTENT_WORDS each. */
export class ExtentStore {
  /** Extents so far. */
  count = 0;
  #words = new Uint32Array(EXTENT_WORDS * 4096);

  /** @param block absolute; see index-encode.ts for the words. */
  push(word: number, blocks: number, block: number): void {
    const at = this.count * EXTENT_WORDS;
    if (at + EXTENT_WORDS > this.#words.length) {
      const larger = new Uint32Array(this.#words.length * 2);
      larger.set(this.#words);
      this.#words = larger;
    }
    this.#words[at] = word;
    this.#words[at + 1] = blocks;
    this.#words[at + 2] = block;
    this.count++;
  }

  /** The words of `count` extents from number `first` on, borrowed until the next push. */
  words(first: number, count: number): Uint32Array {
    return this.#words.subarray(first * EXTENT_WORDS, (first + count) * EXTENT_WORDS);
  }

  /** Forgets the extents from number `first` on. */
  truncate(first: number): void {
    this.count = first;
  }
}

/** Data of a file as pclusters. */
export class CompressedData implements Omit<FileIndex, 'extents'> {
  readonly size: number;
  readonly algorithm: number;
  readonly isBig: boolean;
  readonly inlineSize: number;
  readonly fragmentAt: number | undefined;
  readonly isFull: boolean;
  readonly firstExtent: number;
  readonly extentCount: number;

  constructor(fields: Omit<CompressedData, 'indexSize'>) {
    this.size = fields.size;
    this.algorithm = fields.algorithm;
    this.isBig = fields.isBig;
    this.inlineSize = fields.inlineSize;
    this.fragmentAt = fields.fragmentAt;
    this.isFull = fields.isFull;
    this.firstExtent = fields.firstExtent;
    this.extentCount = fields.extentCount;
  }

  /** Bytes of indexes behind an inode, with the padding before them. */
  indexSize(plan: InodePlan): number {
    const { headSize } = plan;
    return indexPadding(headSize) + indexBytes(headSize, this.size, this.isFull);
  }
}

/** The whole file lies in the packed file. */
export class PackedData {
  /** Byte in the packed file. */
  readonly at: number;

  constructor(at: number) {
    this.at = at;
  }

  /** Bytes behind an inode: the map header and, as with all full indexes, 8 bytes more. */
  indexSize(plan: InodePlan): number {
    return indexPadding(plan.headSize) + 16;
  }
}

/** Data of a file as chunks. */
export class ChunkedData {
  /** First block of each chunk on its device, NO_BLOCK: a hole. */
  readonly blocks: Uint32Array;
  /** 0: the image. */
  readonly device: number;

  constructor(blocks: Uint32Array, device: number) {
    this.blocks = blocks;
    this.device = device;
  }

  /** Bytes of an address. */
  get unit(): number {
    return this.device === 0 ? 4 : 8;
  }

  /** Bytes of the addresses behind an inode, with the padding before them. */
  indexSize(plan: InodePlan): number {
    return this.padding(plan) + this.blocks.length * this.unit;
  }

  /** Bytes before the addresses: they lie at multiples of their size. */
  padding(plan: InodePlan): number {
    return (this.unit - (plan.headSize % this.unit)) % this.unit;
  }
}
