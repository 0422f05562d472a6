// An image whose digest was named: its bytes are compared with it when it is opened, and again whenever they are read.
// Opened by stack/composefs-open.ts; where the kernel enforces the digest (fs-verity), nothing here is needed.
// Follows: fs-verity's tree of 4 KiB blocks (store/verity.ts); kept of it are the digests of the blocks, 0.8% of the image.

import { type ByteSource, requireRange } from '../bytes/source.js';
import { SHA_SIZE, shaRuns } from '../linux/sha.js';
import { algorithmOf } from '../store/objects.js';
import { VerityHasher } from '../store/verity.js';

const BLOCK = 4096;
/** Bytes that are read at once, a multiple of BLOCK. */
const PIECE = 256 * 1024;

export class VerifiedSource implements ByteSource {
  readonly size: number;
  readonly #source: ByteSource;
  readonly #hash: ReturnType<typeof shaRuns>;
  readonly #digestSize: number;
  /** Digest of each block. */
  readonly #leaves: Uint8Array;
  readonly #piece = Buffer.alloc(PIECE);
  readonly #digest: Uint8Array;

  private constructor(source: ByteSource, algorithm: keyof typeof SHA_SIZE) {
    this.size = source.size;
    this.#source = source;
    this.#hash = shaRuns(algorithm);
    this.#digestSize = SHA_SIZE[algorithm];
    this.#leaves = new Uint8Array(Math.ceil(source.size / BLOCK) * this.#digestSize);
    this.#digest = new Uint8Array(this.#digestSize);
  }

  /**
   * Reads all of `source`.
   * @param hex fs-verity digest, 64 digits (SHA-256) or 128 (SHA-512).
   * @returns the digest that the bytes have when it is another one. @throws what `source` throws.
   */
  static open(source: ByteSource, hex: string): VerifiedSource | string {
    const algorithm = algorithmOf(hex);
    const verified = new VerifiedSource(source, algorithm);
    const hasher = new VerityHasher(algorithm);
    for (let at = 0; at < source.size; at += PIECE) {
      const bytes = verified.#load(at);
      hasher.update(bytes);
      const blocks = Math.ceil(bytes.length / BLOCK);
      const to = (at / BLOCK) * verified.#digestSize;
      verified.#hash(verified.#piece, 0, BLOCK, blocks, verified.#leaves, to);
    }
    const found = hasher.digest().toString('hex');
    return found === hex ? verified : found;
  }

  /** @throws Error where the bytes are not those any more whose digest was compared. */
  read(at: number, out: Uint8Array): void {
    requireRange(at, out.length, this.size);
    const end = at + out.length;
    for (let start = at - (at % BLOCK); start < end; start += PIECE) {
      const bytes = this.#load(start, end);
      for (let i = 0; i < bytes.length; i += BLOCK) this.#requireBlock(start + i, i);
      const from = Math.max(at, start);
      const to = Math.min(end, start + bytes.length);
      out.set(bytes.subarray(from - start, to - start), from - at);
    }
  }

  /** Reads whole blocks from `start` to #piece, zeros behind the end. @returns the bytes that there are. */
  #load(start: number, end = this.size): Uint8Array {
    const wanted = Math.ceil((end - start) / BLOCK) * BLOCK;
    const bytes = this.#piece.subarray(0, Math.min(PIECE, wanted, this.size - start));
    this.#source.read(start, bytes);
    this.#piece.fill(0, bytes.length, Math.ceil(bytes.length / BLOCK) * BLOCK);
    return bytes;
  }

  #requireBlock(at: number, i: number): void {
    this.#hash(this.#piece, i, BLOCK, 1, this.#digest, 0);
    const leaf = (at / BLOCK) * this.#digestSize;
    for (let k = 0; k < this.#digestSize; k++) {
      if (this.#digest[k] === this.#leaves[leaf + k]) continue;
      throw new Error(`the block at byte ${at} was changed since the image's digest was compared`);
    }
  }
}
