// The data of a tar layer goes into its blob while the archive is read: written once, cut into chunks and hashed on the way.
// Handed to tree/tar-read in place of the store that keeps data of archives; index.ts asks it for the places afterwards.
// Where a chunk comes from is its place in the decompressed stream.

import { createHash } from 'node:crypto';
import { ftruncateSync, writeSync } from 'node:fs';
import type { FilePlace } from '../../erofs/write-options.js';
import { ArchiveError } from '../../tree/errors.js';
import type { DataMap, Range } from '../../tree/stored.js';
import type { Window } from '../../tree/window.js';
import { type ChunkRecord, Codec, keyOf } from '../chunk-table.js';
import { BLOCK, CHUNK, NO_BLOCK, Places, wholeBits } from './places.js';

/** How the stream of the archive is had again. */
export type StreamCodec = typeof Codec.RAW | typeof Codec.CHECKPOINT;

export class BlobStore {
  readonly places = new Places();
  readonly #fd: number;
  readonly #codec: StreamCodec;
  readonly #buffer = Buffer.alloc(CHUNK);

  /** @param fd the blob, empty. */
  constructor(fd: number, codec: StreamCodec) {
    this.#fd = fd;
    this.#codec = codec;
  }

  /** Takes the data of a member. @returns a range whose offset is the file's key in `places`. @throws ArchiveError. */
  keep(window: Window, size: number, what: string, map?: DataMap): Range {
    const key = window.position;
    if (map !== undefined) this.#sparse(window, key, what, map);
    else if (size > 0) this.#whole(window, size, what);
    return { fd: -1, offset: key };
  }

  /** Sizes the blob. */
  finish(): void {
    ftruncateSync(this.#fd, this.places.blocks * BLOCK);
  }

  #whole(window: Window, size: number, what: string): void {
    const { places } = this;
    const key = window.position;
    const start = places.blocks * BLOCK;
    const records: ChunkRecord[] = [];
    for (let done = 0; done < size; ) {
      const length = Math.min(CHUNK, size - done);
      const from = window.position;
      const part = this.#take(window, length, what);
      const digest = createHash('sha256').update(part).digest();
      // A small file is not written before it is known whether it is new.
      if (size > CHUNK) this.#write(part, start + done);
      records.push(this.#record(start + done, length, from, digest));
      done += length;
    }
    const content = contentKey(size, records);
    if (places.share(key, content)) {
      if (size > CHUNK) ftruncateSync(this.#fd, start);
      return;
    }
    if (size <= CHUNK) this.#write(this.#buffer.subarray(0, size), start);
    const blocks = Uint32Array.of(places.claim(Math.ceil(size / BLOCK)));
    const place = { chunkBits: wholeBits(size), blocks };
    places.take(key, place, records, content);
  }

  #sparse(window: Window, key: number, what: string, { realSize, pieces }: DataMap): void {
    if (pieces.length === 0) return;
    const { places } = this;
    const place = sparsePlace(realSize, pieces, places.blocks);
    // Before anything is written: numbers that are too large would be those of other blocks.
    places.claim(place.count);
    const size = 2 ** place.chunkBits;
    const records: ChunkRecord[] = [];
    const begin = window.position;
    for (const piece of pieces) {
      if (piece.length === 0) continue;
      if (piece.from !== window.position - begin) {
        const where = `${piece.at} of a sparse file`;
        throw new ArchiveError(
          what,
          'data',
          window.position,
          `is not where that of byte ${where} lies`,
        );
      }
      for (let at = piece.at; at < piece.at + piece.length; ) {
        const i = Math.floor(at / size);
        const length = Math.min(CHUNK, piece.at + piece.length - at, (i + 1) * size - at);
        const from = window.position;
        const part = this.#take(window, length, what);
        const to = (place.blocks[i] as number) * BLOCK + (at - i * size);
        this.#write(part, to);
        records.push(this.#record(to, length, from, createHash('sha256').update(part).digest()));
        at += length;
      }
    }
    places.take(key, place, records, undefined);
  }

  #record(at: number, length: number, from: number, digest: Uint8Array): ChunkRecord {
    const isRaw = this.#codec === Codec.RAW;
    return {
      at,
      length,
      stored: isRaw ? length : 0,
      from,
      skip: 0,
      origin: 0,
      codec: this.#codec,
      digest,
    };
  }

  #take(window: Window, length: number, what: string): Uint8Array {
    for (let done = 0; done < length; ) {
      const some = window.peekSome();
      if (some.length === 0) {
        throw new ArchiveError(what, 'data', window.position, 'ends too early');
      }
      const n = Math.min(some.length, length - done);
      this.#buffer.set(some.subarray(0, n), done);
      window.pass(n);
      done += n;
    }
    return this.#buffer.subarray(0, length);
  }

  #write(part: Uint8Array, at: number): void {
    for (let done = 0; done < part.length; ) {
      done += writeSync(this.#fd, part, done, part.length - done, at + done);
    }
  }
}

/** The same for files of one size and content. */
function contentKey(size: number, records: readonly ChunkRecord[]): string {
  if (records.length === 1) return `${size}:${keyOf(records[0]?.digest ?? new Uint8Array(0))}`;
  const hash = createHash('sha256');
  for (const { digest } of records) hash.update(digest);
  return `${size}:${hash.digest('base64')}`;
}

/** Chunks of EROFS that hold all pieces, about as few blocks as can be for as few addresses. */
function sparsePlace(
  size: number,
  pieces: DataMap['pieces'],
  first: number,
): FilePlace & { readonly count: number } {
  // At most 64 Ki addresses: 512 KiB of metadata for a file, however large.
  const chunkBits = Math.max(12, wholeBits(size) - 16);
  const chunk = 2 ** chunkBits;
  const blocks = new Uint32Array(Math.ceil(size / chunk)).fill(NO_BLOCK);
  let count = 0;
  for (const { at, length } of pieces) {
    for (let i = Math.floor(at / chunk); length > 0 && i * chunk < at + length; i++) {
      if (blocks[i] !== NO_BLOCK) continue;
      blocks[i] = first + count;
      count += Math.ceil(Math.min(chunk, size - i * chunk) / BLOCK);
    }
  }
  return { chunkBits, blocks, count };
}
