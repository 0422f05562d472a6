// Random access to gzip: inflate that stops between blocks and shows its state, and inflate that goes on from such a state.
// Used by lazy/tar: the states of a layer are its checkpoints. Decompression from the start is stream-codecs.ts.
// Follows: zlib.h 1.2.8 (Z_BLOCK, inflateGetDictionary, inflatePrime), as examples/zran.c of zlib does; RFC 1952 for members.

import { codecFunction } from './codecs.js';
import { addressOf } from './native-memory.js';
import { NativeStruct, ZStream } from './native-struct.js';
import { StreamError } from './stream-codecs.js';

/** Bytes of the window of deflate: what a block may refer back to. */
export const WINDOW = 32 * 1024;
/** CRC-32 and size behind the blocks of a member. */
const TRAILER = 8;

const Z_OK = 0;
const Z_STREAM_END = 1;
const Z_BUF_ERROR = -5;
const Z_BLOCK = 5;
const RAW = -15;
const GZIP = 15 + 16;
/** Bits of z_stream.data_type after Z_BLOCK. */
const BETWEEN_BLOCKS = 128;
const LAST_BLOCK = 64;
const UNUSED_BITS = 7;

const inflate = () => codecFunction('z', 'int inflate(uint64_t strm, int flush)');

abstract class Inflate {
  /** Bytes that the last step took, and wrote. */
  consumed = 0;
  produced = 0;
  protected readonly stream = new NativeStruct(ZStream.size);
  readonly #inflate = inflate();

  constructor(windowBits: number) {
    const init = codecFunction(
      'z',
      'int inflateInit2_(uint64_t strm, int windowBits, const char *version, int size)',
    );
    const r = init(this.stream.address, windowBits, '1.2.11', ZStream.size);
    if (r !== Z_OK) throw new StreamError(`inflateInit2 failed: ${r}`);
  }

  /** @returns what inflate(3) returns. @throws StreamError. */
  protected run(
    input: number,
    length: number,
    output: number,
    capacity: number,
    flush: number,
  ): number {
    const { stream } = this;
    stream.put64(ZStream.next_in, input);
    stream.put32(ZStream.avail_in, length);
    stream.put64(ZStream.next_out, output);
    stream.put32(ZStream.avail_out, capacity);
    const r = this.#inflate(stream.address, flush);
    if (r < 0 && r !== Z_BUF_ERROR) throw new StreamError('the gzip data is corrupt');
    this.consumed = length - stream.get32(ZStream.avail_in);
    this.produced = capacity - stream.get32(ZStream.avail_out);
    return r;
  }

  close(): void {
    codecFunction('z', 'int inflateEnd(uint64_t strm)')(this.stream.address);
    this.stream.free();
  }
}

/** Inflates gzip members from the start and stops between two blocks. Addresses are those of native-memory.ts. */
export class BlockInflate extends Inflate {
  /** The member is complete. */
  ended = false;
  /** The last step has stopped before a block, from where inflate can go on. */
  isBetweenBlocks = false;
  /** Then: bits of the last byte taken that belong to that block, 0 to 7. */
  bits = 0;
  readonly #dictionary = codecFunction(
    'z',
    'int inflateGetDictionary(uint64_t strm, uint64_t out, uint64_t length)',
  );
  readonly #length = new NativeStruct(8);

  constructor() {
    super(GZIP);
  }

  step(input: number, length: number, output: number, capacity: number): void {
    const r = this.run(input, length, output, capacity, Z_BLOCK);
    this.ended = r === Z_STREAM_END;
    const state = this.stream.get32(ZStream.data_type);
    this.isBetweenBlocks =
      !this.ended && (state & (BETWEEN_BLOCKS | LAST_BLOCK)) === BETWEEN_BLOCKS;
    this.bits = state & UNUSED_BITS;
  }

  /** What the next block may refer to: up to 32 KiB of the member's output so far. */
  window(): Uint8Array {
    const out = Buffer.alloc(WINDOW);
    const r = this.#dictionary(this.stream.address, addressOf(out), this.#length.address);
    if (r !== Z_OK) throw new StreamError(`inflateGetDictionary failed: ${r}`);
    return out.subarray(0, this.#length.get32(0));
  }

  /** The next step begins another member. */
  nextMember(): void {
    codecFunction('z', 'int inflateReset(uint64_t strm)')(this.stream.address);
    this.ended = false;
  }

  override close(): void {
    super.close();
    this.#length.free();
  }
}

/** Where inflate goes on. */
export interface InflateState {
  /** Bits of `byte` that belong to the next block, 0 to 7. */
  readonly bits: number;
  readonly byte: number;
  readonly window: Uint8Array;
}

/** Inflates from a state on, over the ends of members, whatever their checksums say: who asks knows a better digest. */
export class ResumedInflate extends Inflate {
  /** The first member has no header any more. */
  #isRaw = true;
  /** Bytes of a trailer that are still to be passed. */
  #trailer = 0;
  #ended = false;

  /** @param state undefined: at the beginning of a member. */
  constructor(state: InflateState | undefined) {
    super(state === undefined ? GZIP : RAW);
    if (state === undefined) {
      this.#isRaw = false;
      return;
    }
    const { bits, byte, window } = state;
    const prime = codecFunction('z', 'int inflatePrime(uint64_t strm, int bits, int value)');
    const r = bits === 0 ? Z_OK : prime(this.stream.address, bits, byte >>> (8 - bits));
    const set = codecFunction(
      'z',
      'int inflateSetDictionary(uint64_t strm, uint64_t dictionary, uint32_t length)',
    );
    const s =
      window.length === 0 ? Z_OK : set(this.stream.address, addressOf(window), window.length);
    if (r !== Z_OK || s !== Z_OK) {
      this.close();
      throw new StreamError('the checkpoint is no state of inflate');
    }
  }

  /**
   * Inflates bytes of `input` from `from` on to all of `output`.
   * @returns false when the input or the stream ends before; `consumed` and `produced` say what was done.
   */
  fill(input: Uint8Array, from: number, output: Uint8Array): boolean {
    const inputAt = addressOf(input);
    const outputAt = addressOf(output);
    let taken = from;
    let made = 0;
    while (made < output.length) {
      if (this.#ended && !this.#nextMember(input, taken)) break;
      const skipped = Math.min(this.#trailer, input.length - taken);
      this.#trailer -= skipped;
      taken += skipped;
      if (this.#ended) continue;
      const r = this.run(
        inputAt + taken,
        input.length - taken,
        outputAt + made,
        output.length - made,
        0,
      );
      taken += this.consumed;
      made += this.produced;
      if (r === Z_STREAM_END) {
        this.#ended = true;
        this.#trailer = this.#isRaw ? TRAILER : 0;
      } else if (this.consumed === 0 && this.produced === 0) break;
    }
    this.consumed = taken - from;
    this.produced = made;
    return made === output.length;
  }

  /** Goes on behind a trailer. @returns false when there is no other member. */
  #nextMember(input: Uint8Array, at: number): boolean {
    if (at + this.#trailer >= input.length) return false;
    if (this.#trailer > 0) return true;
    this.#isRaw = false;
    this.#ended = false;
    codecFunction('z', 'int inflateReset2(uint64_t strm, int windowBits)')(
      this.stream.address,
      GZIP,
    );
    return true;
  }
}

/** The first `size` bytes of what gzip members hold, whatever may be missing behind them. @throws StreamError when there are fewer. */
export function gunzipPrefix(bytes: Uint8Array, size: number): Uint8Array {
  const inflate = new ResumedInflate(undefined);
  try {
    const out = new Uint8Array(size);
    if (!inflate.fill(bytes, 0, out)) throw new StreamError('the gzip data ends too early');
    return out;
  } finally {
    inflate.close();
  }
}
