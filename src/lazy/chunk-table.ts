// The chunk table of a lazy layer: which bytes of its blob are which chunk, what they must be, and where they come from.
// Written by build/ and tar/, read by the loader (load/) and by servers (source.ts); lies as `chunks` in the layer's folder and in the registry.
// Format: docs/lazy-format.md. A head of 128 bytes, then 64 bytes a chunk in the order of the blob, little endian.

import { createHash } from 'node:crypto';
import { bytes, pad, struct, u8, u16, u32, u64 } from '../bytes/struct.js';

/** `VARVECHK` */
const MAGIC = 0x4b48435645565241n;
const VERSION = 1;

const Head = struct('varve_chunks', 128, {
  magic: [0, u64],
  version: [8, u32],
  count: [12, u32],
  /** Bytes of the blob: a multiple of 4096. */
  blob_size: [16, u64],
  /** Entries of the list of origins, which stands in layer.json. */
  origins: [24, u32],
  reserved: [28, pad(4)],
  /** SHA-256 of meta.erofs: table and metadata belong together. */
  meta_digest: [32, bytes(32)],
  rest: [64, pad(64)],
});

const Record = struct('varve_chunk', 64, {
  /** Byte of the blob. */
  at: [0, u64],
  /** Bytes of content. Up to the next chunk the blob holds zeros. */
  length: [8, u32],
  /** Bytes that the unit takes in its origin; for CHECKPOINT: unused. */
  stored: [12, u32],
  /** Byte in the origin where the unit begins; for CHECKPOINT: byte of the uncompressed stream. */
  from: [16, u64],
  /** Where the chunk begins in the unit once that is decompressed. */
  skip: [24, u32],
  origin: [28, u16],
  codec: [30, u8],
  flags: [31, pad(1)],
  digest: [32, bytes(32)],
});

/** How a unit of bytes in an origin becomes content. Several chunks may lie in one unit. */
export const Codec = {
  /** As it is. */
  RAW: 0,
  /** One zstd frame. */
  ZSTD: 1,
  /** One gzip member. */
  GZIP: 2,
  /** A run of a gzip stream, found by the layer's checkpoints. */
  CHECKPOINT: 3,
} as const;

/** Origin of a chunk that lies in no registry yet: only in layers that were made here and are complete. */
export const NOWHERE = 0xffff;

/** Largest chunk, and largest unit once it is decompressed: what a reader waits for and what memory holds. */
export const MAX_CHUNK = 8 << 20;
/** Most chunks of a table: what a residency map may cost. */
export const MAX_CHUNKS = 1 << 26;

const HEAD_SIZE = Head.size;
const RECORD_SIZE = Record.size;

/** A digest as the key of a Map: Latin-1, 32 characters. */
export const keyOf = (digest: Uint8Array): string => Buffer.from(digest).toString('latin1');

/** One chunk, as build/ and tar/ make it. */
export interface ChunkRecord {
  readonly at: number;
  readonly length: number;
  readonly stored: number;
  readonly from: number;
  readonly skip: number;
  readonly origin: number;
  readonly codec: number;
  /** SHA-256 of the content, 32 bytes. */
  readonly digest: Uint8Array;
}

/** A table that is no table, or not one of this version. */
export class ChunkTableError extends Error {
  constructor(message: string) {
    super(`chunk table: ${message}`);
    this.name = 'ChunkTableError';
  }
}

/**
 * @param records in the order of the blob, not overlapping. @param metaDigest SHA-256 of meta.erofs.
 * @returns the bytes of the file `chunks`.
 */
export function encodeChunkTable(
  records: readonly ChunkRecord[],
  blobSize: number,
  origins: number,
  metaDigest: Uint8Array,
): Uint8Array {
  const out = new Uint8Array(HEAD_SIZE + records.length * RECORD_SIZE);
  const view = new DataView(out.buffer);
  Head.encode(view, {
    magic: MAGIC,
    version: VERSION,
    count: records.length,
    blob_size: BigInt(blobSize),
    origins,
    meta_digest: metaDigest,
  });
  let at = HEAD_SIZE;
  for (const record of records) {
    Record.encode(view, { ...record, at: BigInt(record.at), from: BigInt(record.from) }, at);
    at += RECORD_SIZE;
  }
  return out;
}

/** A table as it lies in memory: nothing is decoded ahead. Chunks are known by their number. */
export class ChunkTable {
  readonly count: number;
  readonly blobSize: number;
  readonly origins: number;
  /** SHA-256 of meta.erofs. */
  readonly metaDigest: Uint8Array;
  readonly #view: DataView;
  readonly #bytes: Uint8Array;

  /**
   * Checks everything that a reader relies on: order, bounds, sizes, origins.
   * @param table whole, borrowed. @throws ChunkTableError.
   */
  constructor(table: Uint8Array) {
    if (table.length < HEAD_SIZE) throw new ChunkTableError('shorter than its head');
    this.#bytes = table;
    this.#view = new DataView(table.buffer, table.byteOffset, table.length);
    const head = Head.decode(this.#view);
    if (head.magic !== MAGIC) throw new ChunkTableError('is none');
    if (head.version !== VERSION) throw new ChunkTableError(`version ${head.version}`);
    this.count = head.count;
    this.blobSize = Number(head.blob_size);
    this.origins = head.origins;
    this.metaDigest = head.meta_digest;
    if (this.count > MAX_CHUNKS) throw new ChunkTableError(`${this.count} chunks`);
    if (table.length !== HEAD_SIZE + this.count * RECORD_SIZE) {
      throw new ChunkTableError(`${table.length} bytes for ${this.count} chunks`);
    }
    if (!Number.isSafeInteger(this.blobSize)) throw new ChunkTableError('size of the blob');
    this.#check();
  }

  #check(): void {
    let end = 0;
    for (let i = 0; i < this.count; i++) {
      const at = this.at(i);
      const length = this.length(i);
      if (at < end) throw new ChunkTableError(`chunk ${i} at byte ${at}`);
      if (length === 0 || length > MAX_CHUNK) throw new ChunkTableError(`chunk ${i}: its length`);
      end = at + length;
      if (end > this.blobSize) throw new ChunkTableError(`chunk ${i} behind the blob's end`);
      const origin = this.origin(i);
      if (origin >= this.origins && origin !== NOWHERE)
        throw new ChunkTableError(`chunk ${i}: its origin`);
      const codec = this.codec(i);
      if (codec > Codec.CHECKPOINT) throw new ChunkTableError(`chunk ${i}: codec ${codec}`);
      const from = this.from(i);
      if (!Number.isSafeInteger(from + this.stored(i)) || this.stored(i) > 2 * MAX_CHUNK) {
        throw new ChunkTableError(`chunk ${i}: where it comes from`);
      }
      if (this.skip(i) + length > MAX_CHUNK) throw new ChunkTableError(`chunk ${i}: its unit`);
    }
  }

  /** Byte of the blob. */
  at(i: number): number {
    const k = HEAD_SIZE + i * RECORD_SIZE;
    return this.#view.getUint32(k + 4, true) * 0x1_0000_0000 + this.#view.getUint32(k, true);
  }

  length(i: number): number {
    return this.#view.getUint32(HEAD_SIZE + i * RECORD_SIZE + 8, true);
  }

  stored(i: number): number {
    return this.#view.getUint32(HEAD_SIZE + i * RECORD_SIZE + 12, true);
  }

  from(i: number): number {
    const k = HEAD_SIZE + i * RECORD_SIZE + 16;
    return this.#view.getUint32(k + 4, true) * 0x1_0000_0000 + this.#view.getUint32(k, true);
  }

  skip(i: number): number {
    return this.#view.getUint32(HEAD_SIZE + i * RECORD_SIZE + 24, true);
  }

  origin(i: number): number {
    return this.#view.getUint16(HEAD_SIZE + i * RECORD_SIZE + 28, true);
  }

  codec(i: number): number {
    return this.#bytes[HEAD_SIZE + i * RECORD_SIZE + 30] as number;
  }

  /** SHA-256 of the content, 32 bytes, borrowed. */
  digest(i: number): Uint8Array {
    const k = HEAD_SIZE + i * RECORD_SIZE + 32;
    return this.#bytes.subarray(k, k + 32);
  }

  /** The first chunk that ends behind byte `at` of the blob; `count` when there is none. */
  find(at: number): number {
    let low = 0;
    let high = this.count;
    while (low < high) {
      const middle = (low + high) >>> 1;
      if (this.at(middle) + this.length(middle) > at) high = middle;
      else low = middle + 1;
    }
    return low;
  }

  /**
   * What a layer of our own form is called: `sha256:HEX` of this table as it would be without a word of where chunks come
   * from (`origins`, and `stored` to `codec` of each, are zero). So it is the same before a push, after it, and everywhere.
   */
  layerId(): string {
    // A copy: slice() of a Buffer would be none.
    const bare = new Uint8Array(this.#bytes);
    bare.fill(0, Head.at.origins, Head.at.origins + 4);
    for (let k = HEAD_SIZE; k < bare.length; k += RECORD_SIZE) {
      bare.fill(0, k + Record.at.stored, k + Record.at.digest);
    }
    return `sha256:${createHash('sha256').update(bare).digest('hex')}`;
  }

  /**
   * This table for another list of origins.
   * @param numbers by number of the origin here: its number there. @param origins entries of that list.
   */
  renumbered(numbers: readonly number[], origins: number): Uint8Array {
    const out = new Uint8Array(this.#bytes);
    const view = new DataView(out.buffer);
    view.setUint32(Head.at.origins, origins, true);
    for (let i = 0; i < this.count; i++) {
      const origin = this.origin(i);
      const number = origin === NOWHERE ? NOWHERE : (numbers[origin] as number);
      view.setUint16(HEAD_SIZE + i * RECORD_SIZE + Record.at.origin, number, true);
    }
    return out;
  }

  /** Whether a chunk lies in no registry. */
  get isNowhere(): boolean {
    for (let i = 0; i < this.count; i++) if (this.origin(i) === NOWHERE) return true;
    return false;
  }

  /** Bytes of content of all chunks. */
  get bytes(): number {
    let sum = 0;
    for (let i = 0; i < this.count; i++) sum += this.length(i);
    return sum;
  }
}
