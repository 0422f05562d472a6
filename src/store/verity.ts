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

/** Levels of a tree of 2^63 bytes in digests of SHA-512. */
const MOST_LEVELS = 9;

/** Where things lie in a hasher's memory, bytes. It is one piece: asking for the address of another costs as much as hashing 60 bytes. */
const Memory = {
  /** A block of data that is not complete. */
  partial: 0,
  descriptor: BLOCK,
  digest: BLOCK + 256,
  one: BLOCK + 512,
  levels: 2 * BLOCK,
  size: (2 + MOST_LEVELS) * BLOCK,
} as const;

/** One level of the tree: the digests of the level below that do not fill a block yet. */
interface Level {
  readonly block: Buffer;
  /** Byte of the block in the hasher's memory. */
  readonly at: number;
  /** Bytes of the block that are digests; less than BLOCK between calls. */
  used: number;
}

/** Takes a file's bytes in order, in pieces of any length, borrowed; holds a block of each level of the tree. */
export class VerityHasher {
  readonly algorithm: VerityAlgorithm;
  readonly #digestSize: number;
  readonly #hash: ReturnType<typeof shaRuns>;
  readonly #levels: Level[] = [];
  /** Levels in use for this file; the others are kept for the next. */
  #depth = 0;
  readonly #memory = Buffer.allocUnsafeSlow(Memory.size);
  readonly #partial = this.#memory.subarray(Memory.partial, Memory.partial + BLOCK);
  #partialUsed = 0;
  readonly #descriptor = this.#memory.subarray(
    Memory.descriptor,
    Memory.descriptor + Descriptor.size,
  );
  #size = 0;

  constructor(algorithm: VerityAlgorithm = 'sha256') {
    this.algorithm = algorithm;
    this.#digestSize = SHA_SIZE[algorithm];
    this.#hash = shaRuns(algorithm);
    this.#descriptor.fill(0);
    this.#descriptor[Descriptor.version] = 1;
    this.#descriptor[Descriptor.hash_algorithm] = VERITY_HASH[algorithm];
    this.#descriptor[Descriptor.log_blocksize] = LOG_BLOCK;
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
      this.#blocks(this.#memory, Memory.partial, 1);
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
    const descriptor = this.#descriptor;
    const memory = this.#memory;
    descriptor.writeUInt32LE(this.#size >>> 0, Descriptor.data_size);
    descriptor.writeUInt32LE(Math.floor(this.#size / 0x1_0000_0000), Descriptor.data_size + 4);
    descriptor.fill(0, Descriptor.root_hash, Descriptor.root_hash + this.#digestSize);
    this.#root(descriptor);
    this.#hash(memory, Memory.descriptor, Descriptor.size, 1, memory, Memory.digest);
    return Buffer.from(memory.subarray(Memory.digest, Memory.digest + this.#digestSize));
  }

  /** Writes the root hash; that of an empty file is zeros. */
  #root(descriptor: Buffer): void {
    if (this.#size === 0) return;
    if (this.#partialUsed > 0) {
      this.#partial.fill(0, this.#partialUsed);
      this.#blocks(this.#memory, Memory.partial, 1);
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
      this.#hash(bytes, at, BLOCK, run, this.#memory, level.at + level.used);
      this.#used(0, level, run);
      i += run;
    }
  }

  #level(index: number): Level {
    while (this.#depth <= index) {
      let level = this.#levels[this.#depth];
      if (level === undefined) {
        const at = Memory.levels + this.#depth * BLOCK;
        level = { block: this.#memory.subarray(at, at + BLOCK), at, used: 0 };
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
    this.#hash(this.#memory, level.at, BLOCK, 1, this.#memory, above.at + above.used);
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
      const memory = this.#memory;
      this.#hash(memory, level.at, BLOCK, 1, memory, Memory.one);
      left -= full * perBlock;
      const one = memory.subarray(Memory.one, Memory.one + this.#digestSize);
      this.#same(index + 1, Buffer.from(one), full);
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
