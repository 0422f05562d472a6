// Compression into a given room: each codec takes as much input as fits, and says how much that was.
// Used by the compression workers of erofs/, on memory of native-memory.ts; the other half (decompression) is codecs.ts.
// Follows: lz4.h and lz4hc.h 1.9, zstd.h 1.4, lzma/container.h 5.4 (MicroLZMA), zlib.h 1.2.

import { codecFunction } from './codecs.js';
import { allocate, copyNative, nativeBytes } from './native-memory.js';
import { LzmaStream, NativeStruct, ZStream } from './native-struct.js';

/** Addresses are Numbers; what lies there must stay while a call runs. One object serves one thread. */
export interface Compressor {
  /** Input bytes that the last call took. */
  taken: number;
  /** Forgets what earlier calls have taught: results depend on what was compressed since. */
  begin(): void;
  /**
   * Compresses the longest beginning of the `length` bytes at `source` that it can fit into `capacity` bytes at `target`.
   * @returns bytes written, never beginning with a zero byte; 0 when not one byte fits.
   */
  compress(source: number, length: number, target: number, capacity: number): number;
}

/** Names of the methods; two of them write the same format. */
export type Method = 'lz4' | 'lz4hc' | 'deflate' | 'zstd' | 'lzma';

export interface MethodLimits {
  /** Level when none is given. */
  readonly level: number;
  readonly least: number;
  readonly most: number;
}

/** Levels as their libraries know them; lzma from 100 on: level - 100 with the "extreme" flag. */
export const METHODS: Readonly<Record<Method, MethodLimits>> = {
  lz4: { level: 1, least: 1, most: 1 },
  // 9, as mkfs.erofs has it, saves 0.1 to 0.3 % more and takes a quarter to a half longer.
  lz4hc: { level: 6, least: 3, most: 12 },
  deflate: { level: 6, least: 1, most: 9 },
  zstd: { level: 3, least: 1, most: 22 },
  lzma: { level: 6, least: 0, most: 109 },
};

export interface CompressorOptions {
  readonly level: number;
  /** Bytes of a pcluster: the largest `capacity`. */
  readonly capacity: number;
  /** Window (dictionary) in bytes: a power of two; LZ4 has 64 KiB whatever this says. */
  readonly window: number;
}

/**
 * Makes a compressor of this thread; it lives as long as the thread.
 * @throws Error that names the library and its Debian package when it is missing.
 */
export function makeCompressor(method: Method, options: CompressorOptions): Compressor {
  switch (method) {
    case 'lz4':
      return new Lz4();
    case 'lz4hc':
      return new Lz4Hc(options.level);
    case 'zstd':
      return new Zstd(options);
    case 'deflate':
      return new Deflate(options);
    case 'lzma':
      return new MicroLzma(options);
  }
}

/**
 * CRC-32 (of zlib, 3 GB/s, where SHA-256 may be 0.4) over bytes at an address, going on from `crc`; begin with 0.
 * For telling contents apart that nobody forges.
 */
export function crc32At(crc: number, address: number, length: number): number {
  crc32Call ??= codecFunction('z', 'uint64_t crc32(uint64_t crc, uint64_t bytes, uint32_t length)');
  return crc32Call(crc, address, length);
}
let crc32Call: ReturnType<typeof codecFunction> | undefined;

/** The longest input of which LZ4 can make `capacity` bytes: each byte of a match length stands for 255. */
const lz4Reach = (capacity: number): number => capacity * 255 + 64;

class Lz4 implements Compressor {
  taken = 0;
  readonly #size: Int32Array;
  readonly #sizeAt: number;
  readonly #call = codecFunction(
    'lz4',
    'int LZ4_compress_destSize(uint64_t src, uint64_t dst, uint64_t size, int capacity)',
  );

  constructor() {
    this.#sizeAt = allocate(16);
    this.#size = new Int32Array(nativeBytes(this.#sizeAt, 16).buffer);
  }

  begin(): void {}

  compress(source: number, length: number, target: number, capacity: number): number {
    this.#size[0] = Math.min(length, lz4Reach(capacity));
    const written = this.#call(source, target, this.#sizeAt, capacity);
    this.taken = this.#size[0] as number;
    return written;
  }
}

/**
 * The library looks for the next match through all that it is offered, even when the literals before it have long filled
 * the room: of data without matches, half of the time. So it is offered little, and more when it comes to the end of that.
 */
class Lz4Hc implements Compressor {
  taken = 0;
  /** The last call gained nothing, so the next one is not expected to. */
  #isDense = false;
  readonly #level: number;
  readonly #size: Int32Array;
  readonly #sizeAt: number;
  readonly #stream: number;
  readonly #reset = codecFunction('lz4', 'void LZ4_resetStreamHC_fast(uint64_t stream, int level)');
  readonly #call = codecFunction(
    'lz4',
    'int LZ4_compress_HC_continue_destSize(uint64_t stream, uint64_t src, uint64_t dst, uint64_t size, int capacity)',
  );

  constructor(level: number) {
    this.#level = level;
    this.#sizeAt = allocate(16);
    this.#size = new Int32Array(nativeBytes(this.#sizeAt, 16).buffer);
    this.#stream = codecFunction('lz4', 'uint64_t LZ4_createStreamHC()')();
    if (this.#stream === 0) throw new Error('LZ4_createStreamHC: no memory');
  }

  begin(): void {
    this.#isDense = false;
  }

  compress(source: number, length: number, target: number, capacity: number): number {
    let offered = this.#isDense ? capacity + (capacity >>> 1) : capacity * 8;
    for (;;) {
      offered = Math.min(length, offered);
      const written = this.#attempt(source, offered, target, capacity);
      // A match that ends where the offer ends might go on.
      const isFinal = written === 0 || this.taken + 64 < offered;
      if (isFinal || offered === length || offered >= lz4Reach(capacity)) {
        this.#isDense = this.taken <= capacity;
        return written;
      }
      offered *= 8;
    }
  }

  #attempt(source: number, length: number, target: number, capacity: number): number {
    this.#size[0] = length;
    // LZ4_compress_HC_destSize would clear 256 KiB of tables for each pcluster: a fifth of the time at 4 KiB. The fast
    // reset moves the base of the indexes instead, so that what is left in the tables is out of reach.
    this.#reset(this.#stream, this.#level);
    const written = this.#call(this.#stream, source, target, this.#sizeAt, capacity);
    this.taken = this.#size[0] as number;
    return written;
  }
}

/** What a first guess expects of an output byte, in input bytes. */
const FIRST_RATIO = 3;

/**
 * For codecs that cannot stop at a size: finds the longest input that fits by compressing guesses. Sizes between two
 * tries are interpolated, and the search ends when what is left free is not worth another try.
 */
abstract class Fitting implements Compressor {
  taken = 0;
  /** Where a guess goes: twice the capacity, so that it is known how far a long guess misses. */
  #roomAt = 0;
  #roomSize = 0;
  #bestAt = 0;
  /** The first byte at the `target` of attempt(), a view. */
  protected first: Uint8Array = new Uint8Array(1);
  /** Input bytes that one output byte stood for in the last call. */
  #ratio = FIRST_RATIO;

  /** A part of the capacity, as a power of 1/2, that may stay free: another try costs more than it is worth. */
  protected abstract readonly slackBits: number;

  /** @returns bytes written to `target`, 0 when `capacity` is too small. */
  protected abstract attempt(
    source: number,
    length: number,
    target: number,
    capacity: number,
  ): number;

  begin(): void {
    this.#ratio = FIRST_RATIO;
  }

  compress(source: number, length: number, target: number, capacity: number): number {
    // Not all that is reserved: what came before must not show in the result.
    const room = capacity * 2 + 64;
    this.#reserve(room);
    const slack = capacity >>> this.slackBits;
    const aim = capacity - (slack >>> 1);
    let fits = 0;
    let fitsSize = 0;
    let over = length + 1;
    let overSize = 0;
    let guess = Math.min(length, Math.floor(aim * this.#ratio));
    for (let tries = 0; tries < 12; tries++) {
      guess = Math.max(fits + 1, Math.min(over - 1, guess));
      const size = this.attempt(source, guess, this.#roomAt, room);
      if (size > 0 && size <= capacity) {
        fits = guess;
        fitsSize = size;
        copyNative(this.#bestAt, this.#roomAt, size);
        if (fits === length || size >= capacity - slack) break;
      } else {
        over = guess;
        overSize = size;
      }
      if (over - fits <= 1) break;
      guess = Math.floor(next(fits, fitsSize, over, overSize, aim, over > length));
    }
    if (fits === 0) {
      this.taken = 0;
      return 0;
    }
    this.#ratio = fits / fitsSize;
    copyNative(target, this.#bestAt, fitsSize);
    this.taken = fits;
    return fitsSize;
  }

  #reserve(size: number): void {
    if (this.#roomSize >= size) return;
    this.#roomSize = size;
    this.#roomAt = allocate(this.#roomSize);
    this.#bestAt = allocate(this.#roomSize);
    this.first = nativeBytes(this.#roomAt, 1);
  }
}

/** The next guess, from the longest input that fits and the shortest that does not; a size of 0 is unknown. */
function next(
  fits: number,
  fitsSize: number,
  over: number,
  overSize: number,
  aim: number,
  isOpen: boolean,
): number {
  if (isOpen) return (fits * aim) / fitsSize;
  if (fits === 0) return overSize === 0 ? over / 2 : Math.min(over - 1, (over * aim) / overSize);
  if (overSize <= fitsSize) return (fits + over) / 2;
  return fits + ((over - fits) * (aim - fitsSize)) / (overSize - fitsSize);
}

const ZSTD_C_COMPRESSION_LEVEL = 100;
const ZSTD_C_WINDOW_LOG = 101;

class Zstd extends Fitting {
  // A fifth less time than with 8, for 0.3 % more bytes.
  protected override readonly slackBits = 6;
  readonly #context: number;
  readonly #call = codecFunction(
    'zstd',
    'int64_t ZSTD_compress2(uint64_t context, uint64_t dst, size_t capacity, uint64_t src, size_t length)',
  );

  constructor(options: CompressorOptions) {
    super();
    this.#context = codecFunction('zstd', 'uint64_t ZSTD_createCCtx()')();
    if (this.#context === 0) throw new Error('ZSTD_createCCtx: no memory');
    const set = codecFunction(
      'zstd',
      'int64_t ZSTD_CCtx_setParameter(uint64_t context, int parameter, int value)',
    );
    const level = set(this.#context, ZSTD_C_COMPRESSION_LEVEL, options.level);
    const window = set(this.#context, ZSTD_C_WINDOW_LOG, Math.log2(options.window));
    if (level < 0 || window < 0) throw new Error(`zstd: no level ${options.level}`);
  }

  protected override attempt(s: number, length: number, target: number, capacity: number): number {
    // An error is a size_t just below 2^64; here it is only ever "destination too small".
    return Math.max(0, this.#call(this.#context, target, capacity, s, length));
  }
}

const Z_FINISH = 4;
const Z_STREAM_END = 1;
const Z_DEFLATED = 8;

class Deflate extends Fitting {
  protected override readonly slackBits = 8;
  readonly #stream = new NativeStruct(ZStream.size);
  readonly #reset = codecFunction('z', 'int deflateReset(uint64_t stream)');
  readonly #deflate = codecFunction('z', 'int deflate(uint64_t stream, int flush)');

  constructor(options: CompressorOptions) {
    super();
    const init = codecFunction(
      'z',
      'int deflateInit2_(uint64_t stream, int level, int method, int window, int memory, int strategy, const char *version, int size)',
    );
    const windowBits = -Math.log2(options.window);
    const r = init(
      this.#stream.address,
      options.level,
      Z_DEFLATED,
      windowBits,
      8,
      0,
      '1.2.11',
      ZStream.size,
    );
    if (r !== 0) throw new Error(`deflateInit2: error ${r}`);
  }

  protected override attempt(s: number, length: number, target: number, capacity: number): number {
    const stream = this.#stream;
    this.#reset(stream.address);
    stream.put64(ZStream.next_in, s);
    stream.put32(ZStream.avail_in, length);
    stream.put64(ZStream.next_out, target);
    stream.put32(ZStream.avail_out, capacity);
    if (this.#deflate(stream.address, Z_FINISH) !== Z_STREAM_END) return 0;
    // A stored block that is not the last begins with a zero byte, which readers would take for padding; the five bits
    // behind its type are skipped, so one of them may be set.
    if (this.first[0] === 0) this.first[0] = 8;
    return capacity - stream.get32(ZStream.avail_out);
  }
}

const LZMA_OPTIONS_SIZE = 256; // struct lzma_options_lzma takes 112; dict_size comes first
const LZMA_FINISH = 3;
const LZMA_STREAM_END = 1;
const LZMA_PRESET_EXTREME = 0x8000_0000;

class MicroLzma implements Compressor {
  taken = 0;
  readonly #stream = new NativeStruct(LzmaStream.size);
  readonly #options = new NativeStruct(LZMA_OPTIONS_SIZE);
  readonly #init = codecFunction(
    'lzma',
    'int lzma_microlzma_encoder(uint64_t stream, uint64_t options)',
  );
  readonly #code = codecFunction('lzma', 'int lzma_code(uint64_t stream, int action)');

  constructor(options: CompressorOptions) {
    const { level } = options;
    const preset = level >= 100 ? (level - 100 + LZMA_PRESET_EXTREME) >>> 0 : level;
    const unknown = codecFunction(
      'lzma',
      'int lzma_lzma_preset(uint64_t options, uint32_t preset)',
    )(this.#options.address, preset);
    if (unknown !== 0) throw new Error(`lzma: no level ${level}`);
    this.#options.put32(0, options.window);
  }

  begin(): void {}

  compress(source: number, length: number, target: number, capacity: number): number {
    // The encoder keeps its memory in the stream from call to call.
    const stream = this.#stream;
    const r = this.#init(stream.address, this.#options.address);
    if (r !== 0) throw new Error(`lzma_microlzma_encoder: error ${r}`);
    stream.put64(LzmaStream.next_in, source);
    stream.put64(LzmaStream.avail_in, length);
    stream.put64(LzmaStream.next_out, target);
    stream.put64(LzmaStream.avail_out, capacity);
    const end = this.#code(stream.address, LZMA_FINISH);
    if (end !== LZMA_STREAM_END) throw new Error(`lzma_code: error ${end}`);
    this.taken = stream.get64(LzmaStream.total_in);
    return capacity - stream.get64(LzmaStream.avail_out);
  }
}
