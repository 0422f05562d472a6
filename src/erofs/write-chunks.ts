// Files as chunks: equal chunks once, holes not at all; in the image, or in a blob beside it.
// Called by write-data.ts, for every file when chunks are asked for and else for sparse ones.
// Follows: erofs_fs.h of Linux 6.18 (chunk-based inodes), whose chunks of 2^43 bytes are the largest.

import { createHash } from 'node:crypto';
import type { ByteSource } from '../bytes/source.js';
import type { Extent } from '../tree/tree.js';
import { ChunkFormat, Layout } from './format.js';
import { type InodePlan, NO_BLOCK } from './plan.js';
import { ChunkedData } from './write-extents.js';
import { BLOCK, BLOCK_BITS } from './write-options.js';
import type { ImageFile } from './write-sink.js';

/** Bytes that are read at a time: chunks may be larger than memory. */
const PART = 1024 * 1024;
const MAX_CHUNK_BITS = BLOCK_BITS + ChunkFormat.BLKBITS_MASK;
/** Bytes of an address in the image. */
const ADDRESS = 4;

/** Where chunks are written, block after block. */
export interface ChunkTarget {
  readonly file: ImageFile;
  /** Number for chunk indexes; 0: the image itself. */
  readonly device: number;
  /** Next free block; moved on by what is written. */
  block: number;
}

/** The runs of data of a file. */
type Extents = readonly Extent[];

/** Bytes of the chunks that have data. */
function bytesInChunks(extents: Extents, size: number, bits: number): number {
  const chunk = 2 ** bits;
  let bytes = 0;
  let end = 0;
  for (const { at, length } of extents) {
    const from = Math.max(end, Math.floor(at / chunk) * chunk);
    const to = Math.min(size, Math.ceil((at + length) / chunk) * chunk);
    if (to > from) bytes += to - from;
    end = Math.max(end, to);
  }
  return bytes;
}

/**
 * The chunk size for a sparse file, as log2 of `least` or more, and the bytes that data and addresses then take.
 */
export function bestChunkBits(
  extents: Extents,
  size: number,
  least = BLOCK_BITS,
): { bits: number; cost: number } {
  let best = { bits: least, cost: Number.POSITIVE_INFINITY };
  for (let bits = least; bits <= MAX_CHUNK_BITS; bits++) {
    const count = Math.ceil(size / 2 ** bits);
    const cost = bytesInChunks(extents, size, bits) + count * ADDRESS;
    if (cost < best.cost) best = { bits, cost };
    if (count <= 1) break;
  }
  return best;
}

/** Says where the chunks of a file lie. @param bits log2 of the chunk size. */
export function placeChunks(
  plan: InodePlan,
  device: number,
  bits: number,
  blocks: Uint32Array,
): void {
  const data = new ChunkedData(blocks, device);
  plan.layout = Layout.CHUNK_BASED;
  plan.i_u = (bits - BLOCK_BITS) | (device === 0 ? 0 : ChunkFormat.INDEXES);
  plan.stored = data;
  plan.indexSize = data.indexSize(plan);
}

/** Writes files as chunks and remembers the chunks of all of them. */
export class ChunkWriter {
  readonly #known = new Map<string, number>();
  readonly #part = Buffer.alloc(PART);
  /** Of everything that was written. */
  readonly hash = createHash('sha256');

  /**
   * @param extents runs of data in `source`. @param bits log2 of the chunk size.
   * @param progress told the bytes that were read.
   */
  write(
    plan: InodePlan,
    source: ByteSource,
    extents: Extents,
    bits: number,
    target: ChunkTarget,
    progress: (bytes: number) => void,
  ): void {
    const { size } = plan;
    const chunk = 2 ** bits;
    const blocks = new Uint32Array(Math.ceil(size / chunk)).fill(NO_BLOCK);
    let next = 0;
    for (const { at, length } of extents) {
      const end = Math.ceil((at + length) / chunk);
      for (let i = Math.max(next, Math.floor(at / chunk)); i < end; i++) {
        const from = i * chunk;
        const bytes = Math.min(chunk, size - from);
        blocks[i] = this.#chunk(source, from, bytes, target);
        progress(bytes);
      }
      next = Math.max(next, end);
    }
    placeChunks(plan, target.device, bits, blocks);
  }

  /** @returns the first block of the chunk. */
  #chunk(source: ByteSource, from: number, length: number, target: ChunkTarget): number {
    const start = target.block;
    const hash = createHash('sha256');
    let written = 0;
    // Large chunks are written before it is known whether they are new; an old one is then written over.
    for (let done = 0; done < length; ) {
      const part = this.#part.subarray(0, Math.min(PART, length - done));
      source.read(from + done, part);
      hash.update(part);
      done += part.length;
      if (length > PART) {
        target.file.write(start * BLOCK + written, part);
        written += part.length;
      }
    }
    const digest = hash.digest();
    const key = `${target.device}:${length}:${digest.toString('latin1')}`;
    const known = this.#known.get(key);
    if (known !== undefined) return known;
    if (length <= PART) target.file.write(start * BLOCK, this.#part.subarray(0, length));
    const padding = (BLOCK - (length % BLOCK)) % BLOCK;
    if (padding > 0) target.file.write(start * BLOCK + length, Buffer.alloc(padding));
    target.block += Math.ceil(length / BLOCK);
    this.#known.set(key, start);
    this.hash.update(digest);
    return start;
  }
}
