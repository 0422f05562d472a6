// The system's compression libraries: loading them, and decompression of LZ4, MicroLZMA, raw DEFLATE, Zstandard.
// Called by erofs/decompress.ts for each pcluster; buffers are ordinary typed arrays, contexts are kept. The other
// half (compression) is compressors.ts.
// Follows: lz4.h 1.9, lzma/container.h 5.4 (lzma_microlzma_decoder), zlib.h 1.2, zstd.h 1.5.

import koffi from 'koffi';
import { addressOf } from './native-memory.js';
import { LzmaStream, NativeStruct, ZStream } from './native-struct.js';

/** The libraries: soname and Debian package. */
const LIBRARIES = {
  lz4: ['liblz4.so.1', 'liblz4-1'],
  zstd: ['libzstd.so.1', 'libzstd1'],
  lzma: ['liblzma.so.5', 'liblzma5'],
  z: ['libz.so.1', 'zlib1g'],
} as const;

type Library = ReturnType<typeof koffi.load>;
const loaded = new Map<string, Library>();

/** A C function; strings are allowed among the arguments where the prototype says so. */
type CodecCall = (...args: (number | bigint | string | null)[]) => number;

/**
 * Declares a function of one of the libraries, for example `'int LZ4_versionNumber()'`; the library is loaded when it
 * is first needed. Pointers are declared `uint64_t` and come from addressOf() or native-memory.ts.
 * @throws Error that names the library and its Debian package when it is not there.
 */
export function codecFunction(name: keyof typeof LIBRARIES, prototype: string): CodecCall {
  let library = loaded.get(name);
  if (library === undefined) {
    const [soname, debian] = LIBRARIES[name];
    try {
      // Deep: Node carries a zlib of its own, and libz must call itself, not that one.
      library = koffi.load(soname, { deep: true });
    } catch (cause) {
      throw new Error(
        `the library ${soname} is missing: install it (Debian: apt-get install ${debian})`,
        { cause },
      );
    }
    loaded.set(name, library);
  }
  return library.func(prototype) as unknown as CodecCall;
}

/**
 * Decompresses `length` bytes of `src` at `from` to `size` bytes of `dst` at `to`.
 * @param partial only a prefix of what is there is wanted; else all of it, and it must be `size` bytes.
 * @returns false when the data is malformed or has fewer bytes.
 */
export type Decompress = (
  src: Uint8Array,
  from: number,
  length: number,
  dst: Uint8Array,
  to: number,
  size: number,
  partial: boolean,
) => boolean;

/** Declares functions when the first of them is called. */
function lazily<T>(declare: () => T): () => T {
  let value: T | undefined;
  return () => (value ??= declare());
}

const lz4 = lazily(() => ({
  whole: codecFunction(
    'lz4',
    'int LZ4_decompress_safe(uint64_t src, uint64_t dst, int size, int capacity)',
  ),
  partial: codecFunction(
    'lz4',
    'int LZ4_decompress_safe_partial(uint64_t src, uint64_t dst, int size, int target, int capacity)',
  ),
}));

/** One LZ4 block. */
export const lz4Decompress: Decompress = (src, from, length, dst, to, size, partial) => {
  const input = addressOf(src) + from;
  const output = addressOf(dst) + to;
  return partial
    ? lz4().partial(input, output, length, size, size) === size
    : lz4().whole(input, output, length, size) === size;
};

const ZSTD_D_WINDOW_LOG_MAX = 100;
/** 16 MiB: more than a pcluster may hold, so that a frame cannot ask for more memory. */
const ZSTD_WINDOW_LOG = 24;

/**
 * 128 MiB: as much as any level of the zstd program writes, and more than the 32 MiB that writers of zstd:chunked name whatever
 * the size. Of the window only as much memory is touched as there is content.
 */
const ZSTD_LARGE_WINDOW_LOG = 27;

const zstd = lazily(() => {
  const declare = (prototype: string): CodecCall => codecFunction('zstd', prototype);
  const setParameter = declare(
    'int64_t ZSTD_DCtx_setParameter(uint64_t dctx, int parameter, int value)',
  );
  const create = declare('uint64_t ZSTD_createDCtx()');
  const [context, largeContext] = [create(), create()];
  setParameter(context, ZSTD_D_WINDOW_LOG_MAX, ZSTD_WINDOW_LOG);
  setParameter(largeContext, ZSTD_D_WINDOW_LOG_MAX, ZSTD_LARGE_WINDOW_LOG);
  return {
    context,
    largeContext,
    whole: declare(
      'int64_t ZSTD_decompressDCtx(uint64_t dctx, uint64_t dst, size_t capacity, uint64_t src, size_t size)',
    ),
    reset: declare('int64_t ZSTD_DCtx_reset(uint64_t dctx, int directive)'),
    stream: declare('int64_t ZSTD_decompressStream(uint64_t dctx, uint64_t out, uint64_t in)'),
    // ZSTD_outBuffer and ZSTD_inBuffer: pointer, size, position.
    out: new NativeStruct(24),
    in: new NativeStruct(24),
  };
});

/** One Zstandard frame. */
export const zstdDecompress: Decompress = (src, from, length, dst, to, size, partial) => {
  const z = zstd();
  const input = addressOf(src) + from;
  const output = addressOf(dst) + to;
  if (!partial) return z.whole(z.context, output, size, input, length) === size;
  return zstdStream(z.context, input, length, output, size);
};

/** The first `dst.length` bytes of the Zstandard frame that `src` begins with, whose window may be large. */
export function zstdPrefix(src: Uint8Array, dst: Uint8Array): boolean {
  return zstdStream(zstd().largeContext, addressOf(src), src.length, addressOf(dst), dst.length);
}

function zstdStream(
  context: number,
  input: number,
  length: number,
  output: number,
  size: number,
): boolean {
  const z = zstd();
  const RESET_SESSION = 1;
  z.reset(context, RESET_SESSION);
  z.out.put64(0, output);
  z.out.put64(8, size);
  z.out.put64(16, 0);
  z.in.put64(0, input);
  z.in.put64(8, length);
  z.in.put64(16, 0);
  for (let before = -1; z.out.get64(16) < size; ) {
    const position = z.out.get64(16) + z.in.get64(16);
    if (position === before) return false;
    before = position;
    // 0: the frame ends here. Another may follow, but not in a pcluster.
    if (z.stream(context, z.out.address, z.in.address) <= 0) break;
  }
  return z.out.get64(16) === size;
}

const zlib = lazily(() => {
  const declare = (prototype: string): CodecCall => codecFunction('z', prototype);
  const stream = new NativeStruct(ZStream.size);
  const init = declare(
    'int inflateInit2_(uint64_t strm, int windowBits, const char *version, int size)',
  );
  const RAW_32K = -15;
  const r = init(stream.address, RAW_32K, '1.2.11', ZStream.size);
  if (r !== 0) throw new Error(`inflateInit2 of libz.so.1 failed: ${r}`);
  return {
    stream,
    reset: declare('int inflateReset(uint64_t strm)'),
    inflate: declare('int inflate(uint64_t strm, int flush)'),
  };
});

/** One raw DEFLATE stream. */
export const inflateRaw: Decompress = (src, from, length, dst, to, size, partial) => {
  const { stream, reset, inflate } = zlib();
  reset(stream.address);
  stream.put64(ZStream.next_in, addressOf(src) + from);
  stream.put32(ZStream.avail_in, length);
  stream.put64(ZStream.next_out, addressOf(dst) + to);
  stream.put32(ZStream.avail_out, size);
  const Z_SYNC_FLUSH = 2;
  const Z_FINISH = 4;
  const Z_STREAM_END = 1;
  const r = inflate(stream.address, partial ? Z_SYNC_FLUSH : Z_FINISH);
  if (stream.get32(ZStream.avail_out) !== 0) return false;
  return partial ? r >= 0 : r === Z_STREAM_END;
};

const lzma = lazily(() => {
  const declare = (prototype: string): CodecCall => codecFunction('lzma', prototype);
  return {
    // All zeros: LZMA_STREAM_INIT. Initialised anew for every pcluster, which reuses the dictionary's memory.
    stream: new NativeStruct(LzmaStream.size),
    init: declare(
      'int lzma_microlzma_decoder(uint64_t strm, uint64_t comp, uint64_t uncomp, uint8_t exact, uint32_t dict)',
    ),
    code: declare('int lzma_code(uint64_t strm, int action)'),
  };
});

/**
 * One MicroLZMA stream.
 * @param dictSize bytes of the largest dictionary that the data may use.
 */
export function microlzmaDecompress(dictSize: number): Decompress {
  return (src, from, length, dst, to, size, partial) => {
    const { stream, init, code } = lzma();
    if (init(stream.address, length, size, partial ? 0 : 1, dictSize) !== 0) return false;
    stream.put64(LzmaStream.next_in, addressOf(src) + from);
    stream.put64(LzmaStream.avail_in, length);
    stream.put64(LzmaStream.next_out, addressOf(dst) + to);
    stream.put64(LzmaStream.avail_out, size);
    const LZMA_FINISH = 3;
    const LZMA_STREAM_END = 1;
    const r = code(stream.address, LZMA_FINISH);
    return r === LZMA_STREAM_END && stream.get64(LzmaStream.avail_out) === 0;
  };
}
