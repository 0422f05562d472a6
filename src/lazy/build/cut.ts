// A metadata image and its blob become a chunk table: which bytes are which chunk, and what they must be.
// Called by build-layer.ts; where the chunks come from is not known yet (push/ says so later).
// A file's chunks begin at its start, so that equal files give equal chunks wherever they lie.

import { createHash } from 'node:crypto';
import type { ByteSource } from '../../bytes/source.js';
import { ErofsImage } from '../../erofs/image.js';
import { type ChunkRecord, Codec, encodeChunkTable, MAX_CHUNK, NOWHERE } from '../chunk-table.js';
import { eachRun } from '../image-runs.js';

/** Bytes of a chunk unless it is said: what a reader waits for, against what a chunk costs. */
export const CHUNK_SIZE = 128 * 1024;
/** Bytes; the smallest and largest that can be asked for. */
const LEAST_CHUNK = 4096;
const MOST_CHUNK = MAX_CHUNK / 2;

export interface CutOptions {
  /** Bytes, a multiple of 4096 from 4 KiB to 4 MiB; CHUNK_SIZE. */
  readonly chunkSize?: number;
  /** Told the bytes that were hashed so far, now and then. */
  readonly onProgress?: (bytes: number) => void;
}

/** What a table was made of. */
export interface Cut {
  /** The file `chunks`. */
  readonly table: Uint8Array;
  readonly inodes: number;
  /** Bytes of all regular files. */
  readonly bytes: number;
}

/** Chunks that are hashed before others get their turn. */
const AT_ONCE = 64;

/** @throws RangeError for a size that chunks cannot have. */
export function checkChunkSize(size: number): void {
  if (!Number.isInteger(size / LEAST_CHUNK) || size < LEAST_CHUNK || size > MOST_CHUNK) {
    throw new RangeError(`chunk size ${size} is no multiple of 4096 from 4096 to ${MOST_CHUNK}`);
  }
}

/**
 * @param meta the metadata image. @param metaDigest its SHA-256, 32 bytes. @param blob its device 1.
 * @throws LayerImageError, ErofsError, RangeError, or what the sources throw.
 */
export async function cutChunks(
  meta: ByteSource,
  metaDigest: Uint8Array,
  blob: ByteSource,
  options: CutOptions = {},
): Promise<Cut> {
  const chunkSize = options.chunkSize ?? CHUNK_SIZE;
  checkChunkSize(chunkSize);
  const runs = new Map<number, number>();
  const { inodes, bytes } = eachRun(ErofsImage.open(meta, [blob]), (at, length) => {
    runs.set(at, Math.max(length, runs.get(at) ?? 0));
  });
  const records: ChunkRecord[] = [];
  const buffer = Buffer.alloc(chunkSize);
  let hashed = 0;
  for (const [start, size] of [...runs].sort(([a], [b]) => a - b)) {
    for (let done = 0; done < size; done += chunkSize) {
      const part = buffer.subarray(0, Math.min(chunkSize, size - done));
      blob.read(start + done, part);
      records.push({
        at: start + done,
        length: part.length,
        stored: 0,
        from: 0,
        skip: 0,
        origin: NOWHERE,
        codec: Codec.RAW,
        digest: createHash('sha256').update(part).digest(),
      });
      hashed += part.length;
      if (records.length % AT_ONCE !== 0) continue;
      options.onProgress?.(hashed);
      await new Promise(setImmediate);
    }
  }
  return { table: encodeChunkTable(records, blob.size, 0, metaDigest), inodes, bytes };
}
