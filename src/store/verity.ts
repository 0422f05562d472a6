// fs-verity digests in software: the name of an object is the digest that the kernel would measure.
// Used wherever an object or an image is named or verified: ingest, checks, mounts.
// Follows: Linux Documentation/filesystems/fsverity.rst (Merkle tree, fs-verity descriptor version 1), 4 KiB blocks, no salt.

import { SEEK } from '../linux/constants.js';
import { E } from '../linux/errno.js';
import { FileSource } from '../linux/file-source.js';
import { lseek } from '../linux/files.js';
import { SHA_SIZE, shaRuns } from '../linux/sha.js';
import { VERITY_HASH } from '../linux/verity.js';

export type VerityAlgorithm = 'sha256' | 'sha512';

/** Bytes of a block, of data and of the tree. */
const BLOCK = 4096;
const LOG_BLOCK = 12;

/** Bytes that verityDigestOfFd() reads at a time; a multiple of BLOCK. */
const PIECE = 256 * 1024;

/** struct fsverity_descriptor, 256 bytes: what is hashed in the end. */
const Descriptor = {
  version: 0,
  hash_algorithm: 1,
  log_blocksize: 2,
  data_size: 8,
  root_hash: 16,
  size: 256,
} as const;

const ZEROS = Buffer.alloc(BLOCK);

/** One level of the tree: the digests of the level below that do not fill a block yet. */
interface Level {
  readonly block: Buffer;
  /** Bytes of the block that are digests; less than BLOCK between calls. */
  used: number;
}

/**
 * Takes a file's bytes in order, in pieces of any length; borrowed. Holds two blocks, and one for each further level of the
 * tree (a level for every factor of 128, for SHA-512 of 64).
 */
export class VerityHasher {
  readonly algorithm: VerityAlgorithm;
  readonly #digestSize: number;
  readonly #hash: ReturnType<typeof shaRuns>;
  readonly #levels: Level[] = [];
  /** Levels in use for this file; the others are kept for the next. */
  #depth = 0;
  /** Bytes of a block of data that is not complete. */
  readonly #partial = Buffer.alloc(BLOCK);
  #partialUsed = 0;
  readonly #one: Buffer;
  #size = 0;

  constructor(algorithm: VerityAlgorithm = 'sha256') {
    this.algorithm = algorithm;
    this.#digestSize = SHA_SIZE[algorithm];
    this.#hash = shaRuns(algorithm);
    this.#one = Buffer.alloc(this.#digestSize);
  }

  /** Forgets the file: the hasher may be used for another one. */
  reset(): this {
    this.#depth = 0;
    this.#partialUsed = 0;
    this.#size = 0;
    return this;
  }

  /** The next bytes of the file; borrowed. */
  update(bytes: Uint8Array): this {
    this.#size += bytes.length;
    let at = 0;
    if (this.#partialUsed > 0) {
      at = Math.min(BLOCK - this.#partialUsed, bytes.length);
      this.#partial.set(bytes.subarray(0, at), this.#partialUsed);
      this.#partialUsed += at;
      if (this.#partialUsed < BLOCK) return this;
      this.#blocks(this.#partial, 0, 1);
      this.#partialUsed = 0;
    }
    const blocks = Math.floor((bytes.length - at) / BLOCK);
    if (blocks > 0) this.#blocks(bytes, at, blocks);
    at += blocks * BLOCK;
    if (at < bytes.length) {
      this.#partial.set(bytes.subarray(at));
      this.#partialUsed = bytes.length - at;
    }
    return this;
  }

  /** The next `length` bytes of the file are zeros; costs the same for a page and for a terabyte. */
  updateZeros(length: number): this {
    let rest = length;
    if (this.#partialUsed > 0) {
      const filling = Math.min(rest, BLOCK - this.#partialUsed);
      this.update(ZEROS.subarray(0, filling));
      rest -= filling;
    }
    const blocks = Math.floor(rest / BLOCK);
    if (blocks > 0) {
      this.#same(0, zeroDigest(this.algorithm), blocks);
      this.#size += blocks * BLOCK;
      rest -= blocks * BLOCK;
    }
    return rest === 0 ? this : this.update(ZEROS.subarray(0, rest));
  }

  /** The digest of all bytes so far. Ends the file: reset() begins the next. */
  digest(): Buffer {
    const descriptor = Buffer.alloc(Descriptor.size);
    descriptor[Descriptor.version] = 1;
    descriptor[Descriptor.hash_algorithm] = VERITY_HASH[this.algorithm];
    descriptor[Descriptor.log_blocksize] = LOG_BLOCK;
    descriptor.writeBigUInt64LE(BigInt(this.#size), Descriptor.data_size);
    this.#root(descriptor);
    const digest = Buffer.alloc(this.#digestSize);
    this.#hash(descriptor, 0, Descriptor.size, 1, digest, 0);
    return digest;
  }

  /** Writes the root hash; that of an empty file is zeros. */
  #root(descriptor: Buffer): void {
    if (this.#size === 0) return;
    if (this.#partialUsed > 0) {
      this.#partial.fill(0, this.#partialUsed);
      this.#blocks(this.#partial, 0, 1);
      this.#partialUsed = 0;
    }
    for (let i = 0; i < this.#depth; i++) {
      const level = this.#levels[i] as Level;
      if (i === this.#depth - 1 && level.used === this.#digestSize) {
        level.block.copy(descriptor, Descriptor.root_hash, 0, this.#digestSize);
        return;
      }
      if (level.used > 0) this.#push(i);
    }
  }

  /** Whole blocks of data. */
  #blocks(bytes: Uint8Array, from: number, count: number): void {
    for (let i = 0; i < count; ) {
      const at = from + i * BLOCK;
      if (bytes[at] === 0 && ZEROS.compare(bytes, at, at + BLOCK) === 0) {
        this.#same(0, zeroDigest(this.algorithm), 1);
        i++;
        continue;
      }
      const level = this.#level(0);
      const room = (BLOCK - level.used) / this.#digestSize;
      const most = Math.min(room, count - i);
      let run = 1;
      while (run < most && bytes[at + run * BLOCK] !== 0) run++;
      this.#hash(bytes, at, BLOCK, run, level.block, level.used);
      this.#used(0, level, run);
      i += run;
    }
  }

  #level(index: number): Level {
    while (this.#depth <= index) {
      let level = this.#levels[this.#depth];
      if (level === undefined) {
        level = { block: Buffer.alloc(BLOCK), used: 0 };
        this.#levels.push(level);
      }
      level.used = 0;
      this.#depth++;
    }
    return this.#levels[index] as Level;
  }

  /** `count` digests were written behind the others. */
  #used(index: number, level: Level, count: number): void {
    level.used += count * this.#digestSize;
    if (level.used === BLOCK) this.#push(index);
  }

  /** Hashes a level's block, zeros behind its digests, into the level above. */
  #push(index: number): void {
    const level = this.#levels[index] as Level;
    const above = this.#level(index + 1);
    level.block.fill(0, level.used);
    this.#hash(level.block, 0, BLOCK, 1, above.block, above.used);
    level.used = 0;
    this.#used(index + 1, above, 1);
  }

  /** The same digest `count` times: what fills whole blocks goes up as one digest, of which there are fewer. */
  #same(index: number, digest: Uint8Array, count: number): void {
    const level = this.#level(index);
    const perBlock = BLOCK / this.#digestSize;
    let left = count;
    const put = (n: number): void => {
      for (let i = 0; i < n; i++) level.block.set(digest, level.used + i * this.#digestSize);
      left -= n;
      this.#used(index, level, n);
    };
    if (level.used > 0) put(Math.min(left, (BLOCK - level.used) / this.#digestSize));
    const full = Math.floor(left / perBlock);
    if (full > 0) {
      for (let i = 0; i < perBlock; i++) level.block.set(digest, i * this.#digestSize);
      this.#hash(level.block, 0, BLOCK, 1, this.#one, 0);
      left -= full * perBlock;
      this.#same(index + 1, Buffer.from(this.#one), full);
    }
    if (left > 0) put(left);
  }
}

const zeroDigests = new Map<VerityAlgorithm, Buffer>();

/** Digest of a block of zeros. */
function zeroDigest(algorithm: VerityAlgorithm): Buffer {
  let digest = zeroDigests.get(algorithm);
  if (digest === undefined) {
    digest = Buffer.alloc(SHA_SIZE[algorithm]);
    shaRuns(algorithm)(ZEROS, 0, BLOCK, 1, digest, 0);
    zeroDigests.set(algorithm, digest);
  }
  return digest;
}

// One of each algorithm and thread for whole files: making one costs more than hashing 4 KiB.
const hashers = new Map<VerityAlgorithm, VerityHasher>();

function hasherOf(algorithm: VerityAlgorithm): VerityHasher {
  let hasher = hashers.get(algorithm);
  if (hasher === undefined) {
    hasher = new VerityHasher(algorithm);
    hashers.set(algorithm, hasher);
  }
  return hasher.reset();
}

/** The fs-verity digest of a file with these bytes. */
export function verityDigest(bytes: Uint8Array, algorithm: VerityAlgorithm = 'sha256'): Buffer {
  return hasherOf(algorithm).update(bytes).digest();
}

let piece: Buffer | undefined;

/**
 * The fs-verity digest of an open file, all of it, wherever its position is (which moves where the file has holes).
 * @throws SysError of pread(2); EIO when the file becomes shorter meanwhile.
 */
export function verityDigestOfFd(fd: number, algorithm: VerityAlgorithm = 'sha256'): Buffer {
  const source = new FileSource(fd);
  const hasher = hasherOf(algorithm);
  piece ??= Buffer.allocUnsafeSlow(PIECE);
  let at = 0;
  // Small files have no holes worth asking for.
  let dataEnd = source.size <= PIECE ? source.size : 0;
  while (at < source.size) {
    if (at >= dataEnd) {
      const data = lseek(fd, at, SEEK.DATA);
      if (data === -E.NXIO) {
        hasher.updateZeros(source.size - at);
        break;
      }
      // A file system that cannot tell: all of it is data.
      const start = data < 0 ? at : Math.min(data, source.size);
      if (start > at) hasher.updateZeros(start - at);
      at = start;
      const hole = data < 0 ? source.size : lseek(fd, at, SEEK.HOLE);
      dataEnd = hole <= at ? source.size : Math.min(hole, source.size);
      continue;
    }
    const part = piece.subarray(0, Math.min(PIECE, dataEnd - at));
    source.read(at, part);
    hasher.update(part);
    at += part.length;
  }
  return hasher.digest();
}
