// dm-verity trees: appended to an image, and the whole image checked against one.
// Called by boot build (append) and by boot verify (check); at boot the kernel's dm-verity does the checking, block by block.
// Follows: Documentation/admin-guide/device-mapper/verity.rst of Linux 6.18, and the superblock of cryptsetup 2.6 (lib/verity/verity.c).

import { createHash } from 'node:crypto';
import { closeSync, fstatSync, fsyncSync, ftruncateSync, openSync, writeSync } from 'node:fs';
import type { ByteSource } from '../../bytes/source.js';
import { bytes, pad, struct, u16, u32, u64 } from '../../bytes/struct.js';
import { FileSource } from '../../linux/file-source.js';
import { SHA_SIZE, shaRuns } from '../../linux/sha.js';
import { MountError, reasonOf } from '../../stack/errors.js';
import type { VerityConfig } from '../config.js';

/** Bytes of a block, of data and of the tree. */
export const VERITY_BLOCK = 4096;
const DIGEST = SHA_SIZE.sha256;
/** Digests in a block of the tree. */
const FANOUT = VERITY_BLOCK / DIGEST;
/** Blocks that are read and hashed in one go: 4 MiB. */
const BATCH = 1024;

/** struct verity_sb: 512 bytes, at the beginning of a block of its own. */
const VeritySuperblock = struct('verity_sb', 512, {
  signature: [0, bytes(8)], // "verity\0\0"
  version: [8, u32],
  hash_type: [12, u32], // 1: the salt before the data

  uuid: [16, bytes(16)],

  algorithm: [32, bytes(32)], // "sha256", padded with zeros

  data_block_size: [64, u32], // bytes
  hash_block_size: [68, u32], // bytes
  data_blocks: [72, u64],

  salt_size: [80, u16], // bytes
  pad1: [82, pad(6)],
  salt: [88, bytes(256)],
  pad2: [344, pad(168)],
});
const UUID_END = VeritySuperblock.at.uuid + 16;

export interface AppendOptions {
  /** Hex digits, at most 256 bytes; default: derived from the image. */
  readonly salt?: string;
  /** Default: derived from the image. Nobody checks it. */
  readonly uuid?: string;
}

/**
 * Appends superblock and tree to the file, which is filled up to whole blocks first. The same bytes and options give the
 * same bytes. The file is synced; after a failure it has its size from before.
 * @throws MountError.
 */
export async function appendVerity(
  image: string,
  options: AppendOptions = {},
): Promise<VerityConfig> {
  const fd = opened(image, 'r+');
  const { size } = fstatSync(fd);
  try {
    if (size === 0) throw wrong(`${image}: is empty: there is nothing to protect`);
    const hashOffset = Math.ceil(size / VERITY_BLOCK) * VERITY_BLOCK;
    ftruncateSync(fd, hashOffset);
    const source = new FileSource(fd, image);
    const identity = identityOf(source, size);
    const salt = saltOf(options.salt ?? identity.toString('hex'));
    const uuid = uuidOf(options.uuid ?? uuidText(identity));
    const dataBlocks = hashOffset / VERITY_BLOCK;
    const levels = treeOf(source, dataBlocks, salt);
    let at = hashOffset;
    for (const part of [superblock(salt, uuid, dataBlocks), ...levels.toReversed()]) {
      writeAll(fd, part, at);
      at += part.length;
    }
    fsyncSync(fd);
    const roothash = rootOf(source, levels, salt).toString('hex');
    return { roothash, salt: salt.toString('hex'), dataBlocks, hashOffset };
  } catch (error) {
    // What is thrown is the cause, also where the file cannot be put right.
    try {
      ftruncateSync(fd, size);
    } catch {}
    if (error instanceof MountError) throw error;
    throw wrong(`${image}: cannot append a hash tree: ${reasonOf(error)}`, error);
  } finally {
    closeSync(fd);
  }
}

/**
 * Reads the image and its tree wholly. The superblock must say what the configuration says; its UUID is free.
 * @throws MountError that names the first block that is not what it was, the tree's from the root down before the data's.
 */
export async function checkVerity(image: string, config: VerityConfig): Promise<void> {
  const fd = opened(image, 'r');
  try {
    checkVeritySource(new FileSource(fd, image), config, image);
  } catch (error) {
    if (error instanceof MountError) throw error;
    throw wrong(`${image}: cannot be read: ${reasonOf(error)}`, error);
  } finally {
    closeSync(fd);
  }
}

/** As checkVerity(), of bytes wherever they are. @param where for messages. */
export function checkVeritySource(source: ByteSource, config: VerityConfig, where: string): void {
  const { dataBlocks, hashOffset } = config;
  const salt = saltOf(config.salt);
  const end = verityEnd(config);
  if (hashOffset < dataBlocks * VERITY_BLOCK || dataBlocks < 1 || hashOffset % VERITY_BLOCK !== 0)
    throw wrong(`${where}: a hash tree at ${hashOffset} cannot be that of ${dataBlocks} blocks`);
  if (source.size < end)
    throw wrong(
      `${where}: is cut off: ${source.size} bytes, image and hash tree are ${end}: copy it again`,
    );
  const found = Buffer.alloc(VERITY_BLOCK);
  source.read(hashOffset, found);
  const uuid = found.subarray(VeritySuperblock.at.uuid, UUID_END);
  const wanted = superblock(salt, uuid, dataBlocks);
  if (!found.equals(wanted)) {
    const at = found.findIndex((byte, i) => byte !== wanted[i]);
    throw wrong(
      `${where}: superblock of the hash tree: byte ${hashOffset + at} is not what the configuration says`,
    );
  }

  const hash = saltedRuns(salt);
  let parent: Uint8Array = Buffer.from(config.roothash, 'hex');
  let at = hashOffset + VERITY_BLOCK;
  for (const blocks of levelSizes(dataBlocks).toReversed()) {
    const level = Buffer.alloc(blocks * VERITY_BLOCK);
    source.read(at, level);
    const bad = firstWrong(hash, level, blocks, parent, 0);
    if (bad >= 0) {
      const what = at === hashOffset + VERITY_BLOCK ? 'root hash' : 'hash above it';
      throw wrong(
        `${where}: hash tree: block at byte ${at + bad * VERITY_BLOCK} does not match the ${what}`,
      );
    }
    parent = level;
    at += level.length;
  }
  const batch = Buffer.alloc(Math.min(BATCH, dataBlocks) * VERITY_BLOCK);
  for (let block = 0; block < dataBlocks; block += BATCH) {
    const count = Math.min(BATCH, dataBlocks - block);
    source.read(block * VERITY_BLOCK, batch.subarray(0, count * VERITY_BLOCK));
    const bad = firstWrong(hash, batch, count, parent, block);
    if (bad < 0) continue;
    const byte = (block + bad) * VERITY_BLOCK;
    throw wrong(`${where}: data block ${block + bad} (byte ${byte}) does not match the hash tree`);
  }
}

/** Bytes of image and tree together. */
export function verityEnd({ dataBlocks, hashOffset }: VerityConfig): number {
  const tree = levelSizes(dataBlocks).reduce((sum, blocks) => sum + blocks, 0);
  return hashOffset + (1 + tree) * VERITY_BLOCK;
}

/** Blocks of each level, that above the data first. One block of data has no tree: its hash is the root hash. */
function levelSizes(dataBlocks: number): number[] {
  const sizes: number[] = [];
  for (let count = dataBlocks; count > 1; ) sizes.push((count = Math.ceil(count / FANOUT)));
  return sizes;
}

/** The levels as they lie on disk, that above the data first. */
function treeOf(source: ByteSource, dataBlocks: number, salt: Buffer): Buffer[] {
  const hash = saltedRuns(salt);
  const levels = levelSizes(dataBlocks).map((blocks) => Buffer.alloc(blocks * VERITY_BLOCK));
  levels.forEach((level, i) => {
    const below = levels[i - 1];
    if (below !== undefined) {
      hash(below, below.length / VERITY_BLOCK, level, 0);
      return;
    }
    const batch = Buffer.alloc(Math.min(BATCH, dataBlocks) * VERITY_BLOCK);
    for (let block = 0; block < dataBlocks; block += BATCH) {
      const count = Math.min(BATCH, dataBlocks - block);
      source.read(block * VERITY_BLOCK, batch.subarray(0, count * VERITY_BLOCK));
      hash(batch, count, level, block * DIGEST);
    }
  });
  return levels;
}

function rootOf(source: ByteSource, levels: readonly Buffer[], salt: Buffer): Buffer {
  let top = levels.at(-1);
  if (top === undefined) source.read(0, (top = Buffer.alloc(VERITY_BLOCK)));
  const root = Buffer.alloc(DIGEST);
  saltedRuns(salt)(top, 1, root, 0);
  return root;
}

type HashBlocks = (blocks: Uint8Array, count: number, out: Uint8Array, at: number) => void;

/**
 * Hashes blocks, each behind the salt: copied together a batch at a time, because a call into OpenSSL for each salt costs
 * more than copying. A salt of up to 55 bytes costs nothing: the padding of the last SHA-256 block takes it.
 */
function saltedRuns(salt: Buffer): HashBlocks {
  const runs = shaRuns('sha256');
  const run = salt.length + VERITY_BLOCK;
  const room = Buffer.alloc(run * 64);
  for (let i = 0; i < 64; i++) salt.copy(room, i * run);
  return (blocks, count, out, at) => {
    for (let first = 0; first < count; first += 64) {
      const n = Math.min(64, count - first);
      for (let i = 0; i < n; i++) {
        const from = (first + i) * VERITY_BLOCK;
        room.set(blocks.subarray(from, from + VERITY_BLOCK), i * run + salt.length);
      }
      runs(room, 0, run, n, out, at + first * DIGEST);
    }
  };
}

/** @returns the first of `count` blocks whose hash is not that in `parent`, whose first hash in question is number `first`; or -1. */
function firstWrong(
  hash: HashBlocks,
  blocks: Uint8Array,
  count: number,
  parent: Uint8Array,
  first: number,
): number {
  const found = Buffer.alloc(count * DIGEST);
  hash(blocks, count, found, 0);
  const wanted = parent.subarray(first * DIGEST, (first + count) * DIGEST);
  if (found.equals(wanted)) return -1;
  return Math.floor(found.findIndex((byte, i) => byte !== wanted[i]) / DIGEST);
}

function superblock(salt: Buffer, uuid: Uint8Array, dataBlocks: number): Buffer {
  const block = Buffer.alloc(VERITY_BLOCK);
  VeritySuperblock.encode(new DataView(block.buffer, block.byteOffset), {
    signature: Buffer.from('verity'),
    version: 1,
    hash_type: 1,
    uuid,
    algorithm: Buffer.from('sha256'),
    data_block_size: VERITY_BLOCK,
    hash_block_size: VERITY_BLOCK,
    data_blocks: BigInt(dataBlocks),
    salt_size: salt.length,
    salt,
  });
  return block;
}

/**
 * 32 bytes that stand for an image: its size, its first and its last MiB. That is where superblock, times and labels of
 * a filesystem are. A salt has to differ between images, not to be secret, and this costs no pass over all of it.
 */
function identityOf(source: ByteSource, size: number): Buffer {
  const hash = createHash('sha256').update(`varve dm-verity ${size}`);
  const sample = Buffer.alloc(Math.min(1024 * 1024, source.size));
  for (const at of [0, source.size - sample.length]) {
    source.read(at, sample);
    hash.update(sample);
  }
  return hash.digest();
}

function saltOf(text: string): Buffer {
  if (/^(?:[0-9a-f]{2}){0,256}$/i.test(text)) return Buffer.from(text, 'hex');
  throw new MountError('option', `salt ${text}: must be up to 256 bytes as hex digits`);
}

/** A UUID of version 8 (RFC 9562): made of a hash. */
function uuidText(identity: Buffer): string {
  const bytes = Buffer.from(identity.subarray(0, 16));
  bytes[6] = ((bytes[6] as number) & 0x0f) | 0x80;
  bytes[8] = ((bytes[8] as number) & 0x3f) | 0x80;
  return bytes.toString('hex').replace(/^(.{8})(.{4})(.{4})(.{4})/, '$1-$2-$3-$4-');
}

function uuidOf(text: string): Buffer {
  if (/^[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}$/i.test(text))
    return Buffer.from(text.replaceAll('-', ''), 'hex');
  throw new MountError('option', `uuid ${text}: must be like 01234567-89ab-cdef-0123-456789abcdef`);
}

function opened(image: string, flags: 'r' | 'r+'): number {
  try {
    return openSync(image, flags);
  } catch (error) {
    throw wrong(`${image}: cannot be opened: ${reasonOf(error)}`, error);
  }
}

function writeAll(fd: number, part: Uint8Array, at: number): void {
  for (let done = 0; done < part.length; )
    done += writeSync(fd, part, done, part.length - done, at + done);
}

const wrong = (message: string, cause?: unknown): MountError =>
  new MountError('layer', message, cause === undefined ? undefined : { cause });
