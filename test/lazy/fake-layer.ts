// A layer folder whose content comes from one origin in memory, and a registry that has it and can fail in every way.
// Used by the tests of the loader: no image is needed to see whether chunks arrive as they should.
// Content is made from the seed, so that a test in another process knows it too.

import { createCipheriv, createHash } from 'node:crypto';
import { mkdirSync, writeFileSync } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';
import { gzipSync } from 'node:zlib';
import {
  type ChunkRecord,
  ChunkTable,
  Codec,
  encodeChunkTable,
} from '../../src/lazy/chunk-table.js';
import { LayerFolder, type Origin, type Source } from '../../src/lazy/layer-folder.js';
import type { ReadRange } from '../../src/lazy/load/fetch.js';
import { CheckpointWriter, StreamKind } from '../../src/lazy/tar/checkpoints.js';
import { recordsOf } from './records-of.js';

export interface FakeLayer {
  readonly folder: LayerFolder;
  readonly table: ChunkTable;
  /** Bytes of the only origin. */
  readonly origin: Buffer;
  /** What the blob is when everything is here. */
  readonly blob: Buffer;
}

/** Numbers that look random and are the same for the same seed. */
export function numbers(seed: number): () => number {
  let state = seed >>> 0 || 1;
  return () => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    return state >>> 8;
  };
}

function noise(seed: number, length: number): Buffer {
  const key = Buffer.alloc(16);
  key.writeUInt32LE(seed >>> 0);
  return createCipheriv('aes-128-ctr', key, Buffer.alloc(16)).update(Buffer.alloc(length));
}

/** A Zstandard frame of one raw block, RFC 8878 3.1.1. */
function zstdFrame(content: Buffer): Buffer {
  const head = Buffer.alloc(12);
  head.writeUInt32LE(0xfd2fb528, 0);
  // Single segment, content size in 4 bytes.
  head[4] = 0xa0;
  head.writeUInt32LE(content.length, 5);
  head.writeUIntLE(1 | (content.length << 3), 9, 3);
  return Buffer.concat([head, content]);
}

/**
 * @param sizes bytes of each chunk, at most 128 KiB; of more than 4 KiB they are units of their own, smaller ones that follow each other
 * share one. A chunk begins at a block of 4096 bytes but where its size says otherwise: 0 modulo 512 bytes, or an odd number, packs it behind the last.
 */
export function makeLayer(path: string, sizes: readonly number[], seed = 1): FakeLayer {
  mkdirSync(path, { recursive: true });
  const folder = new LayerFolder(path);
  const records: ChunkRecord[] = [];
  const pieces: Buffer[] = [];
  const contents: Buffer[] = [];
  let from = 0;
  let at = 0;
  const codecs = [Codec.ZSTD, Codec.RAW, Codec.GZIP];
  for (let i = 0; i < sizes.length; ) {
    const group = [i];
    while ((sizes[i] as number) <= 4096 && group.length < 4) {
      const next = i + group.length;
      if (next >= sizes.length || (sizes[next] as number) > 4096) break;
      group.push(next);
    }
    const members = group.map((j) => noise(seed * 1000003 + j, sizes[j] as number));
    const unit = Buffer.concat(members);
    const codec = codecs[i % 3] as number;
    const stored =
      codec === Codec.RAW ? unit : codec === Codec.GZIP ? gzipSync(unit) : zstdFrame(unit);
    let skip = 0;
    for (const content of members) {
      records.push({
        at,
        length: content.length,
        stored: stored.length,
        from,
        skip,
        origin: 0,
        codec,
        digest: createHash('sha256').update(content).digest(),
      });
      contents.push(content);
      skip += content.length;
      at += content.length;
      if (at % 512 !== 0 && content.length % 2 === 0) at = Math.ceil(at / 4096) * 4096;
    }
    pieces.push(stored);
    from += stored.length;
    i += group.length;
  }
  const blobSize = Math.ceil(at / 4096) * 4096;
  const blob = Buffer.alloc(blobSize);
  for (const [i, record] of records.entries()) (contents[i] as Buffer).copy(blob, record.at);
  const origin = Buffer.concat(pieces);
  const meta = Buffer.from(`meta of ${seed}`);
  const bytes = encodeChunkTable(records, blobSize, 1, createHash('sha256').update(meta).digest());
  writeFileSync(folder.meta, meta);
  writeFileSync(folder.table, bytes);
  const source: Source = { registry: 'first.test', repository: 'app' };
  writeFileSync(
    folder.record,
    JSON.stringify({
      version: 1,
      id: `sha256:${createHash('sha256').update(bytes).digest('hex')}`,
      origins: [
        {
          digest: `sha256:${createHash('sha256').update(origin).digest('hex')}`,
          size: origin.length,
          mediaType: 'application/vnd.varve.pack.v1',
        },
      ] satisfies Origin[],
      sources: [source, { ...source, registry: 'second.test' }],
      form: 'varve',
      inodes: 1,
      bytes: blobSize,
    }),
  );
  return { folder, table: new ChunkTable(bytes), origin, blob };
}

/** A layer whose chunks of `size` bytes are a stream of Zstandard frames of `frame` bytes, with a checkpoint at each of them. */
export function makeStreamLayer(
  path: string,
  count: number,
  size: number,
  frame: number,
): FakeLayer {
  const plain = makeLayer(path, new Array<number>(count).fill(size), 9);
  const { folder, table } = plain;
  const stream = Buffer.concat(
    Array.from({ length: count }, (_, i) => plain.blob.subarray(table.at(i), table.at(i) + size)),
  );
  const points = new CheckpointWriter(StreamKind.ZSTD);
  const frames: Buffer[] = [];
  let at = 0;
  for (let from = 0; from < stream.length; from += frame) {
    points.add(from, at, 0, new Uint8Array(0));
    const one = zstdFrame(stream.subarray(from, from + frame));
    frames.push(one);
    at += one.length;
  }
  const origin = Buffer.concat(frames);
  const records = recordsOf(table).map((record, i) => ({
    ...record,
    stored: 0,
    from: i * size,
    skip: 0,
    codec: Codec.CHECKPOINT,
  }));
  const bytes = encodeChunkTable(records, table.blobSize, 1, table.metaDigest);
  writeFileSync(folder.table, bytes);
  writeFileSync(folder.checkpoints, points.finish(stream.length, origin.length) as Uint8Array);
  const record = folder.read();
  const origins = record.origins.map((known) => ({ ...known, size: origin.length }));
  writeFileSync(folder.record, JSON.stringify({ ...record, origins }));
  return { ...plain, table: new ChunkTable(bytes), origin };
}

/** Chunks of many sizes, `count` of them. */
export function manySizes(count: number, seed = 1): number[] {
  const next = numbers(seed);
  return Array.from({ length: count }, () => {
    const kind = next() % 4;
    if (kind === 0) return 1 + (next() % 4000);
    if (kind === 1) return 512 * (1 + (next() % 32));
    return kind === 2 ? 65536 : 1 + (next() % 100_000);
  });
}

/** What a registry does instead of answering. */
export type Fault =
  | 'wrong'
  | 'truncated'
  | 'stalled'
  | 'auth'
  | 'absent'
  | 'busy'
  | 'refused'
  | 'network'
  | 'range';

/** An error as oci/errors.ts has them. */
export class FakeRegistryError extends Error {
  readonly kind: string;
  readonly retryAfter?: number;

  constructor(kind: string, retryAfter?: number) {
    super(`registry: ${kind}`);
    this.kind = kind;
    if (retryAfter !== undefined) this.retryAfter = retryAfter;
  }
}

/** A registry in memory. */
export class FakeRegistry {
  readonly requests: {
    readonly registry: string;
    readonly at: number;
    readonly length: number;
    /** performance.now() */
    readonly when: number;
  }[] = [];
  /** By host; `*`: of all. */
  readonly faults = new Map<string, Fault>();
  retryAfter: number | undefined;
  /** Milliseconds that an answer takes. */
  delay = 0;
  /** Most requests at a time so far. */
  most = 0;
  #now = 0;
  readonly #origin: Buffer;

  constructor(origin: Buffer) {
    this.#origin = origin;
  }

  get bytes(): number {
    return this.requests.reduce((sum, { length }) => sum + length, 0);
  }

  readonly read: ReadRange = async ({ registry }, origin, at, length, signal) => {
    this.requests.push({ registry, at, length, when: performance.now() });
    this.#now++;
    this.most = Math.max(this.most, this.#now);
    try {
      if (this.delay > 0) await sleep(this.delay, undefined, { signal });
      const fault = this.faults.get(registry) ?? this.faults.get('*');
      if (at + length > origin.size) throw new FakeRegistryError('wrong');
      const bytes = Buffer.from(this.#origin.subarray(at, at + length));
      switch (fault) {
        case undefined:
          return bytes;
        case 'wrong':
          bytes[bytes.length >>> 1] = (bytes[bytes.length >>> 1] as number) ^ 1;
          return bytes;
        case 'truncated':
          return bytes.subarray(0, bytes.length - 1);
        case 'stalled':
          await sleep(1 << 30, undefined, { signal });
          return bytes;
        default:
          throw new FakeRegistryError(fault, this.retryAfter);
      }
    } finally {
      this.#now--;
    }
  };
}
