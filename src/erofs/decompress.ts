// From the stored bytes of a pcluster to the bytes of the file.
// Called by data.ts; the codecs are the system's libraries (linux/codecs.ts).
// Follows: z_erofs_decompress() of Linux 6.18 (fs/erofs/decompressor*.c).

import {
  type Decompress,
  inflateRaw,
  lz4Decompress,
  microlzmaDecompress,
  zstdDecompress,
} from '../linux/codecs.js';
import { Algorithm, FeatureIncompat } from './format.js';
import { Plain } from './mapping.js';
import type { Superblock } from './superblock.js';

/** Decompresses the pclusters of one image. */
export class Decompressor {
  readonly #codecs: readonly Decompress[];
  readonly #blockSize: number;
  /** Compressed data begins with zeros, not ends with them. */
  readonly #padded: boolean;

  constructor(sb: Superblock) {
    const codecs: Decompress[] = [];
    codecs[Algorithm.LZ4] = lz4Decompress;
    codecs[Algorithm.LZMA] = microlzmaDecompress(sb.lzmaDictSize);
    codecs[Algorithm.DEFLATE] = inflateRaw;
    codecs[Algorithm.ZSTD] = zstdDecompress;
    this.#codecs = codecs;
    this.#blockSize = sb.blockSize;
    this.#padded = (sb.featureIncompat & FeatureIncompat.LZ4_0PADDING) !== 0;
  }

  /**
   * Decompresses the first `size` bytes of a pcluster.
   * @param src holds the `length` stored bytes at `from`.
   * @param dst receives `size` bytes at `to`.
   * @param la byte of the file that comes first: interlaced data depends on it.
   * @param partial the pcluster holds more.
   * @returns false when the data is malformed.
   */
  run(
    algorithm: number,
    src: Uint8Array,
    from: number,
    length: number,
    dst: Uint8Array,
    to: number,
    size: number,
    la: number,
    partial: boolean,
  ): boolean {
    if (algorithm === Plain.SHIFTED || algorithm === Plain.INTERLACED) {
      this.copyPlain(algorithm, src, from, length, dst, to, 0, size, la);
      return true;
    }
    if (algorithm === Algorithm.LZ4 && !this.#padded) {
      // The end of the stream is not known, so the end of the output has to do.
      return lz4Decompress(src, from, length, dst, to, size, true);
    }
    const end = from + length;
    while (from < end && src[from] === 0) from++;
    if (from === end) return false;
    const codec = this.#codecs[algorithm] as Decompress;
    return codec(src, from, end - from, dst, to, size, partial);
  }

  /** Copies bytes `skip` to `skip + count` of a plain pcluster; `la` as above. */
  copyPlain(
    algorithm: number,
    src: Uint8Array,
    from: number,
    length: number,
    dst: Uint8Array,
    to: number,
    skip: number,
    count: number,
    la: number,
  ): void {
    if (algorithm === Plain.SHIFTED) {
      dst.set(src.subarray(from + skip, from + skip + count), to);
      return;
    }
    // Up to the end of the file's block the bytes lie at the end of the pcluster, the others before them.
    const first = Math.min(this.#blockSize - (la % this.#blockSize), length);
    const right = Math.max(0, Math.min(first - skip, count));
    if (right > 0) {
      const at = from + length - first + skip;
      dst.set(src.subarray(at, at + right), to);
    }
    if (count > right) {
      const at = from + skip + right - first;
      dst.set(src.subarray(at, at + count - right), to + right);
    }
  }
}
