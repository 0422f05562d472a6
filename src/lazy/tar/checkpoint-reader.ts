// Chunks of a layer that lie within a compressed stream: what to fetch for them, and their content out of what was fetched.
// Called by the loader (load/) for chunks with Codec.CHECKPOINT. Verifies nothing: whoever asks knows the digests.
// A span is a run of the stream between two checkpoints; what lies in it besides comes for nothing.

import { existsSync, readFileSync } from 'node:fs';
import { addressOf, allocate, nativeBytes, release } from '../../linux/native-memory.js';
import { openDecoder, StreamError } from '../../linux/stream-codecs.js';
import { ResumedInflate } from '../../linux/zran.js';
import { type ChunkTable, Codec } from '../chunk-table.js';
import type { LayerFolder } from '../layer-folder.js';
import { Checkpoints, StreamKind } from './checkpoints.js';

/** One range to fetch: a run of a compressed stream that can be decompressed by itself. */
export interface StreamSpan {
  readonly origin: number;
  /** Byte of the origin, and how many from there. */
  readonly at: number;
  readonly length: number;
  /** Every chunk of the table that lies wholly in it, ascending; those that were asked for, and others. */
  readonly chunks: readonly number[];
  /** Numbers of checkpoints: from which to which (not included). */
  readonly from: number;
  readonly to: number;
}

/** Compressed bytes of a span where several lie beside each other. */
const SPAN = 1 << 20;
/** Bytes that are decompressed to be passed over, at a time. */
const PASS = 64 * 1024;

/** The checkpoints of a layer; undefined where it has none. @throws CheckpointError. */
export function layerCheckpoints({ checkpoints }: LayerFolder): CheckpointReader | undefined {
  return existsSync(checkpoints) ? new CheckpointReader(readFileSync(checkpoints)) : undefined;
}

export class CheckpointReader {
  readonly #points: Checkpoints;

  /** @param checkpoints bytes of the file, borrowed. @throws CheckpointError. */
  constructor(checkpoints: Uint8Array) {
    this.#points = new Checkpoints(checkpoints);
  }

  /**
   * What to fetch so that all of `wanted` can be had.
   * @param wanted numbers of chunks with Codec.CHECKPOINT, ascending. @param most compressed bytes of one range, where a single
   * chunk does not need more. @throws StreamError for a table that does not fit the checkpoints.
   */
  plan(table: ChunkTable, wanted: readonly number[], most = SPAN): StreamSpan[] {
    const points = this.#points;
    const spans: StreamSpan[] = [];
    let from = -1;
    let to = -1;
    let origin = -1;
    const close = (first: number, last: number): void => {
      if (from < 0) return;
      const at = points.start(from);
      const length = points.in(to) - at;
      spans.push({
        origin,
        at,
        length,
        from,
        to,
        chunks: this.#within(table, first, last, from, to, origin),
      });
    };
    let first = -1;
    let last = -1;
    for (const chunk of wanted) {
      if (table.codec(chunk) !== Codec.CHECKPOINT)
        throw new StreamError(`chunk ${chunk} has no checkpoint`);
      const begin = table.from(chunk);
      const end = begin + table.length(chunk);
      if (end > points.streamSize) throw new StreamError(`chunk ${chunk} lies behind its stream`);
      const a = points.find(begin);
      const b = points.find(end - 1) + 1;
      const isNear = from >= 0 && table.origin(chunk) === origin && a >= from && a <= to;
      const isSmall = isNear && points.in(Math.max(to, b)) - points.start(from) <= most;
      if (isNear && (b <= to || isSmall)) {
        to = Math.max(to, b);
      } else {
        close(first, last);
        from = a;
        to = b;
        origin = table.origin(chunk);
        first = chunk;
      }
      last = chunk;
    }
    close(first, last);
    return spans;
  }

  /** All chunks around first .. last that lie in a span: chunks that follow each other mostly do so in the stream. */
  #within(
    table: ChunkTable,
    first: number,
    last: number,
    from: number,
    to: number,
    origin: number,
  ): number[] {
    const begin = this.#points.out(from);
    const end = this.#points.out(to);
    const isIn = (i: number): boolean =>
      table.codec(i) === Codec.CHECKPOINT &&
      table.origin(i) === origin &&
      table.from(i) >= begin &&
      table.from(i) + table.length(i) <= end;
    let low = first;
    while (low > 0 && isIn(low - 1)) low--;
    let high = last;
    while (high + 1 < table.count && isIn(high + 1)) high++;
    const chunks: number[] = [];
    for (let i = low; i <= high; i++) if (isIn(i)) chunks.push(i);
    return chunks;
  }

  /**
   * The content of chunks of a span, each given to `take` (borrowed until it returns) in the order of the stream.
   * @param bytes those of the span, whole. @param chunks some of span.chunks.
   * @throws StreamError when they do not decompress to that; what was taken before is as good as ever.
   */
  decode(
    table: ChunkTable,
    span: StreamSpan,
    bytes: Uint8Array,
    chunks: readonly number[],
    take: (chunk: number, content: Uint8Array) => void,
  ): void {
    if (bytes.length !== span.length) {
      throw new StreamError(`${bytes.length} bytes, ${span.length} were wanted`);
    }
    const order = [...chunks].sort((a, b) => table.from(a) - table.from(b));
    const stream =
      this.#points.kind === StreamKind.GZIP
        ? new GzipRun(this.#points, span.from, bytes)
        : new ZstdRun(bytes);
    /** The run of the stream that is held: chunks may overlap in it. */
    let held: Uint8Array = new Uint8Array(0);
    let heldAt = this.#points.out(span.from);
    try {
      for (const chunk of order) {
        const at = table.from(chunk);
        const length = table.length(chunk);
        const end = heldAt + held.length;
        if (at < heldAt) throw new StreamError(`chunk ${chunk} is not in the span`);
        if (at >= end) {
          stream.pass(at - end);
          held = stream.read(length);
        } else if (at + length > end) {
          held = Buffer.concat([held.subarray(at - heldAt), stream.read(at + length - end)]);
        } else held = held.subarray(at - heldAt);
        heldAt = at;
        take(chunk, held.subarray(0, length));
      }
    } finally {
      stream.close();
    }
  }
}

/** A decompressed stream from somewhere on. */
abstract class StreamRun {
  /** @returns false when it ends before. */
  protected abstract fill(out: Uint8Array): boolean;
  abstract close(): void;

  read(length: number): Uint8Array {
    const out = new Uint8Array(length);
    if (!this.fill(out)) throw new StreamError('the compressed data ends too early');
    return out;
  }

  pass(length: number): void {
    if (length === 0) return;
    const out = new Uint8Array(Math.min(length, PASS));
    for (let left = length; left > 0; left -= Math.min(left, PASS)) {
      if (!this.fill(out.subarray(0, Math.min(left, PASS)))) {
        throw new StreamError('the compressed data ends too early');
      }
    }
  }
}

class GzipRun extends StreamRun {
  readonly #bytes: Uint8Array;
  readonly #inflate: ResumedInflate;
  #at: number;

  constructor(points: Checkpoints, from: number, bytes: Uint8Array) {
    super();
    this.#bytes = bytes;
    this.#at = points.in(from) - points.start(from);
    this.#inflate = new ResumedInflate(points.state(from, bytes[0] ?? 0));
  }

  protected override fill(out: Uint8Array): boolean {
    const isWhole = this.#inflate.fill(this.#bytes, this.#at, out);
    this.#at += this.#inflate.consumed;
    return isWhole;
  }

  override close(): void {
    this.#inflate.close();
  }
}

class ZstdRun extends StreamRun {
  readonly #bytes: Uint8Array;
  readonly #decoder;
  readonly #out = allocate(PASS);
  #at = 0;

  constructor(bytes: Uint8Array) {
    super();
    this.#bytes = bytes;
    this.#decoder = openDecoder('zstd', bytes);
  }

  protected override fill(out: Uint8Array): boolean {
    const input = addressOf(this.#bytes);
    for (let made = 0; made < out.length; ) {
      const room = Math.min(PASS, out.length - made);
      this.#decoder.step(input + this.#at, this.#bytes.length - this.#at, this.#out, room);
      const { consumed, produced } = this.#decoder;
      if (consumed === 0 && produced === 0) return false;
      this.#at += consumed;
      out.set(nativeBytes(this.#out, produced), made);
      made += produced;
    }
    return true;
  }

  override close(): void {
    this.#decoder.close();
    release(this.#out, PASS);
  }
}
