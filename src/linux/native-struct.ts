// C structs in native memory, filled by hand, and the two that the compression libraries are driven by.
// Used by codecs.ts, stream-codecs.ts and compressors.ts.
// Follows: zlib.h 1.2 (z_stream) and lzma/base.h 5.4 (lzma_stream) on 64-bit systems; little endian.

import { allocate, nativeBytes, release } from './native-memory.js';

/** One struct, all zeros at first; offsets in bytes, 64-bit fields as Numbers. */
export class NativeStruct {
  readonly address: number;
  readonly #size: number;
  readonly #words: Uint32Array;

  constructor(size: number) {
    this.address = allocate(size);
    this.#size = size;
    this.#words = new Uint32Array(nativeBytes(this.address, size).buffer);
  }

  put64(at: number, value: number): void {
    this.#words[at >>> 2] = value >>> 0;
    this.#words[(at >>> 2) + 1] = Math.floor(value / 0x1_0000_0000);
  }

  get64(at: number): number {
    const high = this.#words[(at >>> 2) + 1] as number;
    return high * 0x1_0000_0000 + (this.#words[at >>> 2] as number);
  }

  put32(at: number, value: number): void {
    this.#words[at >>> 2] = value;
  }

  get32(at: number): number {
    return this.#words[at >>> 2] as number;
  }

  /** Nobody may use it afterwards. */
  free(): void {
    release(this.address, this.#size);
  }
}

/** struct z_stream. */
export const ZStream = {
  size: 112,
  next_in: 0,
  avail_in: 8,
  next_out: 24,
  avail_out: 32,
  data_type: 88,
} as const;

/** struct lzma_stream: avail_* have 8 bytes, in z_stream 4. All zeros is LZMA_STREAM_INIT. */
export const LzmaStream = {
  size: 136,
  next_in: 0,
  avail_in: 8,
  total_in: 16,
  next_out: 24,
  avail_out: 32,
} as const;
