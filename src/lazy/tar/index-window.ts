// The decompressed stream of a layer as a window for tree/tar-read, which hashes it and gathers checkpoints on the way.
// Made by index.ts over the compressed layer in a file; the plain one of a layer that is not compressed only hashes.
// A checkpoint stands every MiB of output, at the first place behind that where decompression can begin.

import { createHash } from 'node:crypto';
import { openDecoder, type StreamDecoder, StreamError } from '../../linux/stream-codecs.js';
import { BlockInflate } from '../../linux/zran.js';
import { TreeError } from '../../tree/errors.js';
import { Window } from '../../tree/window.js';
import { CheckpointWriter, StreamKind } from './checkpoints.js';

/** Bytes of the decompressed stream between two checkpoints, at least. */
const SPACING = 1 << 20;
const CAPACITY = 256 * 1024;
const NOTHING = new Uint8Array(0);
const LOOK_AHEAD = 64;
/** Bytes of a record of tar, unless it is told otherwise. */
const RECORD = 20 * 512;

/** What a layer is made of. */
export type Compression = 'none' | 'gzip' | 'zstd';

/** Somebody has asked for the end of it. */
export class StoppedError extends Error {}

/** Hashes what it gives. */
export abstract class IndexWindow extends Window {
  protected readonly input: Window;
  readonly #hash = createHash('sha256');
  /** Bytes of the stream so far. */
  size = 0;
  /** One word of another thread: not 0 when nothing more is to be given. */
  stop: Int32Array | undefined;

  constructor(input: Window) {
    super();
    this.input = input;
  }

  protected abstract produce(): number;

  protected fill(): number {
    if (this.stop !== undefined && Atomics.load(this.stop, 0) !== 0) throw new StoppedError();
    const n = this.produce();
    this.#hash.update(this.bytes.subarray(this.end, this.end + n));
    this.size += n;
    return n;
  }

  /**
   * Reads what is left. @returns `sha256:HEX` of all of the stream; then with zeros up to the end of tar's last record, as the
   * writers of zstd:chunked of 2022 drop these and leave the archive its name.
   */
  digests(): string[] {
    for (let some = this.peekSome(); some.length > 0; some = this.peekSome())
      this.pass(some.length);
    const padded = this.#hash.copy().update(Buffer.alloc((RECORD - (this.size % RECORD)) % RECORD));
    return [this.#hash, padded].map((hash) => `sha256:${hash.digest('hex')}`);
  }

  /** The file `checkpoints`, once digests() have been asked for; undefined where the stream has none that are worth anything. */
  checkpoints(_originSize: number): Uint8Array | undefined {
    return undefined;
  }
}

/** @param input the layer from its beginning. @param spacing bytes between checkpoints. */
export function indexWindow(
  compression: Compression,
  input: Window,
  spacing: number = SPACING,
): IndexWindow {
  if (compression === 'none') return new PlainWindow(input);
  return compression === 'gzip' ? new GzipWindow(input, spacing) : new ZstdWindow(input, spacing);
}

class PlainWindow extends IndexWindow {
  protected produce(): number {
    const some = this.input.peekSome();
    const n = Math.min(some.length, CAPACITY - this.end);
    this.bytes.set(some.subarray(0, n), this.end);
    this.input.pass(n);
    return n;
  }
}

abstract class StreamWindow extends IndexWindow {
  protected readonly spacing: number;
  readonly #writer: CheckpointWriter;

  constructor(input: Window, kind: number, spacing: number) {
    super(input);
    this.spacing = spacing;
    this.#writer = new CheckpointWriter(kind);
  }

  /** Whether the next place to begin at is to be kept. `out`: bytes of the stream before it. */
  protected isDue(out: number): boolean {
    const { last } = this.#writer;
    return last === undefined || out >= last + this.spacing;
  }

  protected point(out: number, bits: number, window: Uint8Array): void {
    this.#writer.add(out, this.input.position, bits, window);
  }

  protected corrupt(cause: unknown): unknown {
    if (!(cause instanceof StreamError)) return cause;
    return new TreeError(`layer: ${cause.message}, near byte ${this.input.position}`, { cause });
  }

  protected tooShort(): TreeError {
    return new TreeError(
      `layer: the compressed data ends too early, at byte ${this.input.position}`,
    );
  }

  override checkpoints(originSize: number): Uint8Array | undefined {
    return this.#writer.finish(this.size, originSize);
  }
}

class GzipWindow extends StreamWindow {
  readonly #inflate = new BlockInflate();
  #isOver = false;

  constructor(input: Window, spacing: number) {
    super(input, StreamKind.GZIP, spacing);
  }

  protected produce(): number {
    const { input } = this;
    const inflate = this.#inflate;
    while (!this.#isOver) {
      const available = input.peekSome().length;
      const room = CAPACITY - this.end;
      try {
        inflate.step(input.nextAddress, available, this.address + this.end, room);
      } catch (cause) {
        throw this.corrupt(cause);
      }
      const { consumed, produced } = inflate;
      input.pass(consumed);
      const out = this.size + produced;
      if (inflate.isBetweenBlocks && this.isDue(out)) {
        this.point(out, inflate.bits, inflate.window());
      }
      if (inflate.ended) this.#next();
      if (produced > 0) return produced;
      if (consumed === 0 && available === 0 && !this.#isOver) throw this.tooShort();
    }
    return 0;
  }

  /** Goes on with the member that follows; what is none ends the stream. */
  #next(): void {
    const [a, b] = this.input.peek(2);
    if (a === 0x1f && b === 0x8b) this.#inflate.nextMember();
    else this.#isOver = true;
  }

  override close(): void {
    this.#inflate.close();
    super.close();
  }
}

class ZstdWindow extends StreamWindow {
  #decoder: StreamDecoder | undefined;

  constructor(input: Window, spacing: number) {
    super(input, StreamKind.ZSTD, spacing);
    this.#begin(0);
  }

  #begin(out: number): void {
    const head = this.input.peek(LOOK_AHEAD);
    this.#decoder?.close();
    this.#decoder = undefined;
    if (head.length === 0) return;
    if (this.isDue(out)) this.point(out, 0, NOTHING);
    this.#decoder = openDecoder('zstd', head);
  }

  protected produce(): number {
    const { input } = this;
    while (this.#decoder !== undefined) {
      const decoder = this.#decoder;
      const available = input.peekSome().length;
      try {
        decoder.step(input.nextAddress, available, this.address + this.end, CAPACITY - this.end);
      } catch (cause) {
        throw this.corrupt(cause);
      }
      const { consumed, produced, ended } = decoder;
      input.pass(consumed);
      if (ended) this.#begin(this.size + produced);
      if (produced > 0) return produced;
      if (!ended && consumed === 0 && available === 0) throw this.tooShort();
    }
    return 0;
  }

  override close(): void {
    this.#decoder?.close();
    this.#decoder = undefined;
    super.close();
  }
}
