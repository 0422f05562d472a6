// Decompression of streams: gzip, Zstandard, xz, lzma and LZ4, a piece of input to a piece of output at a time.
// Used by tree/ for compressed archives, on native memory; blocks of images are codecs.ts.
// Follows: zlib.h 1.2, zstd.h 1.5, lzma/container.h 5.4, lz4frame.h 1.9; legacy LZ4 frames: lz4_Frame_format.md 1.6.

import { codecFunction } from './codecs.js';
import { allocate, copyNative, nativeBytes, release } from './native-memory.js';
import { LzmaStream, NativeStruct, ZStream } from './native-struct.js';

export type StreamFormat = 'gzip' | 'zstd' | 'xz' | 'lzma' | 'lz4';

/** A stream that cannot be decompressed; the message says why, without a place. */
export class StreamError extends Error {
  constructor(message: string) {
    super(message);
    this.name = 'StreamError';
  }
}

/** Bytes of dictionary that a stream may ask for. What `zstd -19 --long` and `xz -9e` write needs less. */
const MEMORY_LIMIT = 256 * 1024 * 1024;

/** Input bytes that step() should be offered, where there are as many: it may have to look at them without taking them. */
export const LOOK_AHEAD = 8;

/** Decompresses one stream (gzip member, frame). Addresses are those of native-memory.ts. */
export interface StreamDecoder {
  /** Bytes that the last step took, and wrote. */
  readonly consumed: number;
  readonly produced: number;
  /** The stream is complete; what follows in the input is not part of it. */
  readonly ended: boolean;
  /** @throws StreamError when the data is malformed. */
  step(input: number, length: number, output: number, capacity: number): void;
  close(): void;
}

/** The format that data begins with, from its first 6 bytes or more. */
export function streamFormat(head: Uint8Array): StreamFormat | 'bzip2' | 'lzo' | undefined {
  const starts = (...bytes: number[]) => bytes.every((byte, i) => head[i] === byte);
  if (starts(0x1f, 0x8b)) return 'gzip';
  if (starts(0x28, 0xb5, 0x2f, 0xfd)) return 'zstd';
  if (starts(0xfd, 0x37, 0x7a, 0x58, 0x5a, 0x00)) return 'xz';
  // A dictionary size that is a power of two; the properties byte is what every encoder writes by default.
  if (starts(0x5d, 0x00, 0x00) && head.length >= 6) return 'lzma';
  if (starts(0x04, 0x22, 0x4d, 0x18) || starts(0x02, 0x21, 0x4c, 0x18)) return 'lz4';
  if (starts(0x42, 0x5a, 0x68)) return 'bzip2';
  if (starts(0x89, 0x4c, 0x5a, 0x4f)) return 'lzo';
  // Skippable frames, which pzstd and seekable Zstandard put in front.
  if (((head[0] ?? 0) & 0xf0) === 0x50 && head[1] === 0x2a && head[2] === 0x4d && head[3] === 0x18)
    return 'zstd';
  return undefined;
}

/**
 * A decoder for one stream.
 * @param head its first bytes. @throws Error that names the library and its Debian package when it is missing.
 */
export function openDecoder(format: StreamFormat, head: Uint8Array): StreamDecoder {
  switch (format) {
    case 'gzip':
      return new GzipDecoder();
    case 'zstd':
      return new ZstdDecoder();
    case 'xz':
    case 'lzma':
      return new LzmaDecoder(format);
    case 'lz4':
      return head[0] === 0x02 ? new LegacyLz4Decoder() : new Lz4Decoder();
  }
}

abstract class Decoder implements StreamDecoder {
  consumed = 0;
  produced = 0;
  ended = false;
  abstract step(input: number, length: number, output: number, capacity: number): void;
  abstract close(): void;
}

class GzipDecoder extends Decoder {
  readonly #stream = new NativeStruct(ZStream.size);
  readonly #inflate = codecFunction('z', 'int inflate(uint64_t strm, int flush)');

  constructor() {
    super();
    const init = codecFunction(
      'z',
      'int inflateInit2_(uint64_t strm, int windowBits, const char *version, int size)',
    );
    const GZIP_32K = 15 + 16;
    const r = init(this.#stream.address, GZIP_32K, '1.2.11', ZStream.size);
    if (r !== 0) throw new StreamError(`inflateInit2 failed: ${r}`);
  }

  step(input: number, length: number, output: number, capacity: number): void {
    const stream = this.#stream;
    stream.put64(ZStream.next_in, input);
    stream.put32(ZStream.avail_in, length);
    stream.put64(ZStream.next_out, output);
    stream.put32(ZStream.avail_out, capacity);
    const Z_STREAM_END = 1;
    const Z_BUF_ERROR = -5;
    const r = this.#inflate(stream.address, 0);
    if (r < 0 && r !== Z_BUF_ERROR) throw new StreamError('the gzip data is corrupt');
    this.consumed = length - stream.get32(ZStream.avail_in);
    this.produced = capacity - stream.get32(ZStream.avail_out);
    this.ended = r === Z_STREAM_END;
  }

  close(): void {
    codecFunction('z', 'int inflateEnd(uint64_t strm)')(this.#stream.address);
    this.#stream.free();
  }
}

class LzmaDecoder extends Decoder {
  readonly #format: string;
  readonly #stream = new NativeStruct(LzmaStream.size);
  readonly #code = codecFunction('lzma', 'int lzma_code(uint64_t strm, int action)');

  constructor(format: 'xz' | 'lzma') {
    super();
    this.#format = format;
    const r =
      format === 'xz'
        ? codecFunction(
            'lzma',
            'int lzma_stream_decoder(uint64_t strm, uint64_t memlimit, uint32_t flags)',
          )(this.#stream.address, MEMORY_LIMIT, 0)
        : codecFunction('lzma', 'int lzma_alone_decoder(uint64_t strm, uint64_t memlimit)')(
            this.#stream.address,
            MEMORY_LIMIT,
          );
    if (r !== 0) throw new StreamError(`the ${format} decoder cannot start: ${r}`);
  }

  step(input: number, length: number, output: number, capacity: number): void {
    const stream = this.#stream;
    stream.put64(LzmaStream.next_in, input);
    stream.put64(LzmaStream.avail_in, length);
    stream.put64(LzmaStream.next_out, output);
    stream.put64(LzmaStream.avail_out, capacity);
    const LZMA_STREAM_END = 1;
    const LZMA_UNSUPPORTED_CHECK = 3;
    const LZMA_MEMLIMIT_ERROR = 6;
    const LZMA_BUF_ERROR = 10;
    const r = this.#code(stream.address, 0);
    if (r === LZMA_MEMLIMIT_ERROR) {
      throw new StreamError(
        `the ${this.#format} data needs more than ${MEMORY_LIMIT >> 20} MiB to be decompressed`,
      );
    }
    if (r > LZMA_UNSUPPORTED_CHECK && r !== LZMA_BUF_ERROR) {
      throw new StreamError(`the ${this.#format} data is corrupt`);
    }
    this.consumed = length - stream.get64(LzmaStream.avail_in);
    this.produced = capacity - stream.get64(LzmaStream.avail_out);
    this.ended = r === LZMA_STREAM_END;
  }

  close(): void {
    codecFunction('lzma', 'void lzma_end(uint64_t strm)')(this.#stream.address);
    this.#stream.free();
  }
}

class ZstdDecoder extends Decoder {
  readonly #context: number;
  // ZSTD_outBuffer and ZSTD_inBuffer: pointer, size, position.
  readonly #buffers = new NativeStruct(48);
  readonly #decompress = codecFunction(
    'zstd',
    'int64_t ZSTD_decompressStream(uint64_t dctx, uint64_t out, uint64_t in)',
  );

  constructor() {
    super();
    this.#context = codecFunction('zstd', 'uint64_t ZSTD_createDCtx()')();
    if (this.#context === 0) throw new StreamError('no memory for the zstd decoder');
    const ZSTD_D_WINDOW_LOG_MAX = 100;
    codecFunction(
      'zstd',
      'int64_t ZSTD_DCtx_setParameter(uint64_t dctx, int parameter, int value)',
    )(this.#context, ZSTD_D_WINDOW_LOG_MAX, Math.log2(MEMORY_LIMIT));
  }

  step(input: number, length: number, output: number, capacity: number): void {
    const buffers = this.#buffers;
    buffers.put64(0, output);
    buffers.put64(8, capacity);
    buffers.put64(16, 0);
    buffers.put64(24, input);
    buffers.put64(32, length);
    buffers.put64(40, 0);
    const r = this.#decompress(this.#context, buffers.address, buffers.address + 24);
    const ZSTD_ERROR_WINDOW_TOO_LARGE = -16;
    if (r === ZSTD_ERROR_WINDOW_TOO_LARGE) {
      throw new StreamError(
        `the zstd data needs more than ${MEMORY_LIMIT >> 20} MiB to be decompressed`,
      );
    }
    if (r < 0) throw new StreamError('the zstd data is corrupt');
    this.produced = buffers.get64(16);
    this.consumed = buffers.get64(40);
    this.ended = r === 0;
  }

  close(): void {
    codecFunction('zstd', 'int64_t ZSTD_freeDCtx(uint64_t dctx)')(this.#context);
    this.#buffers.free();
  }
}

class Lz4Decoder extends Decoder {
  readonly #context: number;
  // The context's pointer, then two size_t: of the output and of the input.
  readonly #sizes = new NativeStruct(24);
  readonly #decompress = codecFunction(
    'lz4',
    'int64_t LZ4F_decompress(uint64_t ctx, uint64_t dst, uint64_t dstSize, uint64_t src, uint64_t srcSize, uint64_t opt)',
  );

  constructor() {
    super();
    const LZ4F_VERSION = 100;
    const r = codecFunction(
      'lz4',
      'int64_t LZ4F_createDecompressionContext(uint64_t ctx, uint32_t version)',
    )(this.#sizes.address, LZ4F_VERSION);
    if (r < 0) throw new StreamError('no memory for the lz4 decoder');
    this.#context = this.#sizes.get64(0);
  }

  step(input: number, length: number, output: number, capacity: number): void {
    const sizes = this.#sizes;
    sizes.put64(8, capacity);
    sizes.put64(16, length);
    const out = sizes.address + 8;
    const r = this.#decompress(this.#context, output, out, input, out + 8, 0);
    if (r < 0) throw new StreamError('the lz4 data is corrupt');
    this.produced = sizes.get64(8);
    this.consumed = sizes.get64(16);
    this.ended = r === 0;
  }

  close(): void {
    codecFunction('lz4', 'int64_t LZ4F_freeDecompressionContext(uint64_t ctx)')(this.#context);
    this.#sizes.free();
  }
}

const LEGACY_BLOCK = 8 * 1024 * 1024;
/** LZ4_compressBound of a block. */
const LEGACY_BOUND = LEGACY_BLOCK + Math.ceil(LEGACY_BLOCK / 255) + 16;

/** What `lz4 -l` writes, as kernels want their initramfs: blocks of 8 MiB, each behind its compressed size, without an end mark. */
class LegacyLz4Decoder extends Decoder {
  readonly #packed = allocate(LEGACY_BOUND);
  readonly #block = allocate(LEGACY_BLOCK);
  readonly #decompress = codecFunction(
    'lz4',
    'int LZ4_decompress_safe(uint64_t src, uint64_t dst, int size, int capacity)',
  );
  #started = false;
  /** Compressed bytes of the block being gathered; 0 between two blocks. */
  #size = 0;
  #gathered = 0;
  /** What of the decompressed block has not been handed out. */
  #from = 0;
  #to = 0;

  step(input: number, length: number, output: number, capacity: number): void {
    this.consumed = 0;
    this.produced = 0;
    if (this.#from < this.#to) {
      this.#handOut(output, capacity);
      return;
    }
    if (!this.#started) {
      // The magic number has been seen.
      this.#started = true;
      this.consumed = 4;
      return;
    }
    if (this.#size === 0) {
      const size = length < 4 ? 0 : new DataView(nativeBytes(input, 4).buffer).getUint32(0, true);
      if (size === 0 || size > LEGACY_BOUND) {
        this.ended = true;
        return;
      }
      this.#size = size;
      this.#gathered = 0;
      this.consumed = 4;
    }
    const n = Math.min(length - this.consumed, this.#size - this.#gathered);
    copyNative(this.#packed + this.#gathered, input + this.consumed, n);
    this.#gathered += n;
    this.consumed += n;
    if (this.#gathered < this.#size) return;
    const r = this.#decompress(this.#packed, this.#block, this.#size, LEGACY_BLOCK);
    if (r < 0) throw new StreamError('the lz4 data is corrupt');
    this.#size = 0;
    this.#from = 0;
    this.#to = r;
    this.#handOut(output, capacity);
  }

  #handOut(output: number, capacity: number): void {
    const n = Math.min(capacity, this.#to - this.#from);
    copyNative(output, this.#block + this.#from, n);
    this.#from += n;
    this.produced = n;
  }

  close(): void {
    release(this.#packed, LEGACY_BOUND);
    release(this.#block, LEGACY_BLOCK);
  }
}
