// Whole Zstandard frames in memory: compressing a run of bytes, and what a frame says of its size.
// Used by lazy/ for the chunks and tables of layers; codecs.ts decompresses such frames, compressors.ts fits them into a room.
// Follows: zstd.h 1.5, RFC 8878. The same bytes, level and library version give the same frame.

import { codecFunction } from './codecs.js';
import { addressOf } from './native-memory.js';

const ZSTD_C_COMPRESSION_LEVEL = 100;
/** As zstd.h has them, as a signed 64-bit number. */
const CONTENTSIZE_UNKNOWN = -1;

/** Compresses frame after frame on one thread, each by itself. */
export class ZstdFrames {
  readonly #context: number;
  #out = new Uint8Array(0);
  readonly #bound = codecFunction('zstd', 'uint64_t ZSTD_compressBound(size_t length)');
  readonly #compress = codecFunction(
    'zstd',
    'int64_t ZSTD_compress2(uint64_t context, uint64_t dst, size_t capacity, uint64_t src, size_t length)',
  );

  /** @throws Error that names the library and its Debian package when it is missing, RangeError for a level that is none. */
  constructor(level: number) {
    this.#context = codecFunction('zstd', 'uint64_t ZSTD_createCCtx()')();
    if (this.#context === 0) throw new Error('ZSTD_createCCtx: no memory');
    const set = codecFunction(
      'zstd',
      'int64_t ZSTD_CCtx_setParameter(uint64_t context, int parameter, int value)',
    );
    const isLevel = Number.isInteger(level) && level >= 1 && level <= 22;
    if (!isLevel || set(this.#context, ZSTD_C_COMPRESSION_LEVEL, level) < 0) {
      this.close();
      throw new RangeError(`zstd has no level ${level}; its levels are 1 to 22`);
    }
  }

  /** @returns the frame, which says the size of its content; borrowed until the next call. */
  compress(bytes: Uint8Array): Uint8Array {
    const bound = this.#bound(bytes.length);
    if (this.#out.length < bound) this.#out = new Uint8Array(bound);
    const n = this.#compress(
      this.#context,
      addressOf(this.#out),
      this.#out.length,
      addressOf(bytes),
      bytes.length,
    );
    if (n < 0) throw new Error('ZSTD_compress2: no memory');
    return this.#out.subarray(0, n);
  }

  close(): void {
    codecFunction('zstd', 'int64_t ZSTD_freeCCtx(uint64_t context)')(this.#context);
  }
}

/**
 * Bytes of content that a frame says it has, by its first 18 bytes or more; undefined when it does not say, or is none.
 * What it says is not yet true.
 */
export function zstdContentSize(frame: Uint8Array): number | undefined {
  const size = codecFunction(
    'zstd',
    'int64_t ZSTD_getFrameContentSize(uint64_t src, size_t length)',
  )(addressOf(frame), frame.length);
  return size <= CONTENTSIZE_UNKNOWN ? undefined : Number(size);
}
