// The file `checkpoints` of a layer: where in its compressed stream decompression can begin, and with which state.
// Made by index-window.ts while a layer is read, read by checkpoint-reader.ts; lies in the layer's folder and in an index in a registry.
// Format: docs/lazy-format.md. A head of 64 bytes, 32 bytes a checkpoint in the order of the stream, then the windows; little endian.

import { deflateRawSync, inflateRawSync } from 'node:zlib';
import { pad, struct, u8, u32, u64 } from '../../bytes/struct.js';
import { type InflateState, WINDOW } from '../../linux/zran.js';

/** `VARVECKP` */
const MAGIC = 0x504b434556524156n;
const VERSION = 1;

const Head = struct('varve_checkpoints', 64, {
  magic: [0, u64],
  version: [8, u32],
  kind: [12, u32],

  count: [16, u32],
  reserved: [20, pad(4)],
  /** Bytes of the stream once it is decompressed. */
  stream_size: [24, u64],

  /** Bytes of the compressed stream. */
  origin_size: [32, u64],
  rest: [40, pad(24)],
});

const Record = struct('varve_checkpoint', 32, {
  /** Byte of the decompressed stream. */
  out: [0, u64],
  /** Byte of the compressed stream behind the last one that is taken; the block begins within that when `bits` is not 0. */
  in: [8, u64],

  /** Byte of this file where the window lies, as raw DEFLATE; 0 to 32,768 bytes once it is inflated. */
  window: [16, u64],
  window_size: [24, u32],
  bits: [28, u8],
  reserved: [29, pad(3)],
});

/** What the compressed stream is made of. */
export const StreamKind = {
  /** gzip members. */
  GZIP: 1,
  /** zstd frames: a checkpoint is the beginning of one. */
  ZSTD: 2,
} as const;

/** Most compressed bytes between two checkpoints: what one read may have to fetch. */
export const MAX_SPAN = 16 << 20;
/** Most decompressed bytes between two checkpoints: what one read may have to pass over. */
export const MAX_SPAN_OUT = 64 << 20;
/** Most checkpoints of a file: those of 16 TiB. */
const MAX_COUNT = 1 << 24;

/** Checkpoints that are none. */
export class CheckpointError extends Error {
  constructor(message: string) {
    super(`checkpoints: ${message}`);
    this.name = 'CheckpointError';
  }
}

interface Point {
  readonly out: number;
  readonly in: number;
  readonly bits: number;
  readonly window: Uint8Array;
}

/** Gathers checkpoints and makes the file of them. */
export class CheckpointWriter {
  readonly #kind: number;
  readonly #points: Point[] = [];

  constructor(kind: number) {
    this.#kind = kind;
  }

  /** Byte of the decompressed stream where the last one is; undefined before the first. */
  get last(): number | undefined {
    return this.#points.at(-1)?.out;
  }

  /** @param window borrowed. */
  add(out: number, at: number, bits: number, window: Uint8Array): void {
    const packed = window.length === 0 ? window : deflateRawSync(window, { level: 6 });
    this.#points.push({ out, in: at, bits, window: packed });
  }

  /** @returns the bytes of the file; undefined when two checkpoints are too far apart to be worth anything. */
  finish(streamSize: number, originSize: number): Uint8Array | undefined {
    const points = this.#points;
    let size = Head.size + points.length * Record.size;
    const parts: Uint8Array[] = [Buffer.alloc(size)];
    const view = new DataView((parts[0] as Uint8Array).buffer, (parts[0] as Uint8Array).byteOffset);
    Head.encode(view, {
      magic: MAGIC,
      version: VERSION,
      kind: this.#kind,
      count: points.length,
      stream_size: BigInt(streamSize),
      origin_size: BigInt(originSize),
    });
    for (const [i, point] of points.entries()) {
      const next = points[i + 1] ?? { out: streamSize, in: originSize };
      if (next.out - point.out > MAX_SPAN_OUT || next.in - point.in >= MAX_SPAN) return undefined;
      const record = {
        out: BigInt(point.out),
        in: BigInt(point.in),
        window: BigInt(size),
        window_size: point.window.length,
        bits: point.bits,
      };
      Record.encode(view, record, Head.size + i * Record.size);
      parts.push(point.window);
      size += point.window.length;
    }
    return Buffer.concat(parts);
  }
}

/** Checkpoints as they lie in memory; all of it is checked, as they may come from a registry. */
export class Checkpoints {
  readonly kind: number;
  readonly count: number;
  readonly streamSize: number;
  readonly originSize: number;
  readonly #bytes: Uint8Array;
  readonly #view: DataView;

  /** @param bytes whole, borrowed. @throws CheckpointError. */
  constructor(bytes: Uint8Array) {
    if (bytes.length < Head.size) throw new CheckpointError('shorter than their head');
    this.#bytes = bytes;
    this.#view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
    const head = Head.decode(this.#view);
    if (head.magic !== MAGIC) throw new CheckpointError('are none');
    if (head.version !== VERSION) throw new CheckpointError(`version ${head.version}`);
    if (head.kind !== StreamKind.GZIP && head.kind !== StreamKind.ZSTD) {
      throw new CheckpointError(`kind ${head.kind}`);
    }
    this.kind = head.kind;
    this.count = head.count;
    this.streamSize = Number(head.stream_size);
    this.originSize = Number(head.origin_size);
    if (!Number.isSafeInteger(this.streamSize) || !Number.isSafeInteger(this.originSize)) {
      throw new CheckpointError('size of the stream');
    }
    if (this.count > MAX_COUNT || Head.size + this.count * Record.size > bytes.length) {
      throw new CheckpointError(`${bytes.length} bytes for ${this.count} checkpoints`);
    }
    this.#check();
  }

  #check(): void {
    const { count } = this;
    if (count > 0 && this.out(0) !== 0) throw new CheckpointError('do not begin at the start');
    if (count === 0 && this.streamSize > 0) throw new CheckpointError('there is none');
    for (let i = 0; i < count; i++) {
      const wrong = (what: string) => new CheckpointError(`number ${i}: ${what}`);
      const [nextOut, nextIn] = [this.out(i + 1), this.in(i + 1)];
      if (nextOut < this.out(i) || nextOut - this.out(i) > MAX_SPAN_OUT) throw wrong('its place');
      if (nextIn < this.in(i) || nextIn - this.in(i) > MAX_SPAN) throw wrong('its place');
      if (this.#bits(i) > 7 || (this.#bits(i) > 0 && this.in(i) === 0)) throw wrong('its bits');
      const at = this.#u64(i, 16);
      if (at + this.#windowSize(i) > this.#bytes.length) throw wrong('its window');
      if (this.#windowSize(i) > 2 * WINDOW) throw wrong('its window');
    }
  }

  #u64(i: number, field: number): number {
    const at = Head.size + i * Record.size + field;
    return this.#view.getUint32(at + 4, true) * 0x1_0000_0000 + this.#view.getUint32(at, true);
  }

  #bits(i: number): number {
    return this.#bytes[Head.size + i * Record.size + 28] as number;
  }

  #windowSize(i: number): number {
    return this.#view.getUint32(Head.size + i * Record.size + 24, true);
  }

  /** Byte of the decompressed stream; that behind its end for i = count. */
  out(i: number): number {
    return i < this.count ? this.#u64(i, 0) : this.streamSize;
  }

  /** Byte of the compressed stream behind what is taken; its end for i = count. */
  in(i: number): number {
    return i < this.count ? this.#u64(i, 8) : this.originSize;
  }

  /** First byte of the compressed stream that is needed from checkpoint `i` on. */
  start(i: number): number {
    return this.in(i) - (i < this.count && this.#bits(i) > 0 ? 1 : 0);
  }

  /** The last checkpoint at or before byte `out` of the decompressed stream. */
  find(out: number): number {
    let low = 0;
    let high = this.count - 1;
    while (low < high) {
      const middle = (low + high + 1) >>> 1;
      if (this.out(middle) <= out) low = middle;
      else high = middle - 1;
    }
    return low;
  }

  /** @param first byte start(i) of the compressed stream. @throws CheckpointError. */
  state(i: number, first: number): InflateState {
    const at = this.#u64(i, 16);
    const packed = this.#bytes.subarray(at, at + this.#windowSize(i));
    let window: Uint8Array = packed;
    if (packed.length > 0) {
      try {
        window = inflateRawSync(packed, { maxOutputLength: WINDOW });
      } catch (cause) {
        throw new CheckpointError(`number ${i}: its window: ${(cause as Error).message}`);
      }
    }
    return { bits: this.#bits(i), byte: first, window };
  }
}
