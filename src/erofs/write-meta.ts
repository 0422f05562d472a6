// Pass 2, the metadata: inodes, xattrs, indexes, inline data and directories, in the order of their places.
// Called by write.ts when layout.ts has placed everything; what is written is hashed for the UUID.
// Follows: erofs_fs.h of Linux 6.18.

import type { Hash } from 'node:crypto';
import { S } from '../linux/constants.js';
import {
  ErofsInodeChunkIndex,
  ErofsInodeCompact,
  ErofsInodeExtended,
  InodeFormat,
  Layout,
  Z_EROFS_FRAGMENT_INODE,
} from './format.js';
import { encodeIndex, indexPadding } from './index-encode.js';
import type { MetaLayout } from './layout.js';
import { flatBlocks, type InodePlan, NO_BLOCK } from './plan.js';
import { encodeDirectory } from './plan-dir.js';
import { ChunkedData, CompressedData, type ExtentStore, PackedData } from './write-extents.js';
import { BLOCK } from './write-options.js';
import type { ImageFile, Spool } from './write-sink.js';

/** Bytes that are formed before they are written. */
const WINDOW = 4 * 1024 * 1024;

const blocksUp = (size: number): number => Math.ceil(size / BLOCK) * BLOCK;

export interface MetaOptions {
  readonly image: ImageFile;
  readonly tails: Spool;
  readonly extents: ExtentStore;
  readonly hash: Hash;
  readonly xattrFilter: boolean;
}

/** Ascending bytes of the image, written in pieces of whole blocks. */
class Window {
  readonly #options: MetaOptions;
  /** Byte in the image of the first byte of the window. */
  #start: number;
  /** Bytes of the window that are in use. */
  #used = 0;
  #bytes = Buffer.alloc(WINDOW);

  constructor(options: MetaOptions, start: number) {
    this.#options = options;
    this.#start = start;
  }

  /** `size` zeroed bytes from byte `at` of the image on, valid until the next call; never before the last block. */
  take(at: number, size: number): Buffer {
    if (at + size > this.#start + this.#bytes.length) this.#advance(at, size);
    const from = at - this.#start;
    this.#used = Math.max(this.#used, from + size);
    return this.#bytes.subarray(from, from + size);
  }

  /** Writes everything up to byte `end` of the image. */
  finish(end: number): void {
    while (this.#start < end) {
      const size = Math.min(end - this.#start, this.#bytes.length);
      this.#write(size);
      this.#bytes.fill(0, 0, Math.min(this.#used, size));
      this.#start += size;
      this.#used = 0;
    }
  }

  #advance(at: number, size: number): void {
    const keep = Math.floor(at / BLOCK) * BLOCK;
    const done = keep - this.#start;
    const held = Math.max(0, this.#used - done);
    if (done <= this.#bytes.length) this.#write(done);
    else throw new RangeError(`a gap in the metadata before byte ${at}`);
    const needed = blocksUp(at - keep + size);
    const next = needed > this.#bytes.length ? Buffer.alloc(needed) : this.#bytes;
    this.#bytes.copy(next, 0, done, done + held);
    if (next === this.#bytes) next.fill(0, held, this.#used);
    this.#bytes = next;
    this.#start = keep;
    this.#used = held;
  }

  #write(size: number): void {
    const bytes = this.#bytes.subarray(0, size);
    this.#options.image.write(this.#start, bytes);
    this.#options.hash.update(bytes);
  }
}

/** Writes the metadata area. @param start first block of it. */
export function writeMeta(
  inodes: readonly InodePlan[],
  layout: MetaLayout,
  start: number,
  options: MetaOptions,
): void {
  const window = new Window(options, start * BLOCK);
  const placed = [...inodes].sort((a, b) => a.offset - b.offset);
  let number = 0;
  for (const plan of placed) {
    const size = plan.headSize + plan.indexSize + plan.tailSize;
    const out = window.take(start * BLOCK + plan.offset, size);
    encodeInode(plan, out, ++number, options);
  }
  // Blocks of directories, and of long symlinks, behind the inodes in the order of layout.ts.
  for (const plan of inodes) {
    if (plan.type !== S.IFDIR && plan.type !== S.IFLNK) continue;
    const blocks = flatBlocks(plan);
    if (blocks === 0) continue;
    const out = window.take(plan.i_u * BLOCK, blocks * BLOCK);
    ownData(plan).copy(out, 0, 0, blocks * BLOCK);
  }
  window.finish((start + layout.blocks) * BLOCK);
}

/** Content of a directory or symlink. */
function ownData(plan: InodePlan): Buffer {
  if (plan.type === S.IFLNK) return Buffer.from(plan.node?.target ?? '', 'latin1');
  const data = Buffer.alloc(blocksUp(plan.size));
  encodeDirectory(plan.names, plan.children, data);
  return data;
}

function encodeInode(plan: InodePlan, out: Buffer, ino: number, options: MetaOptions): void {
  const view = new DataView(out.buffer, out.byteOffset, out.length);
  const i_xattr_icount = plan.xattrs === undefined ? 0 : plan.xattrs.count;
  const i_format = plan.layout << InodeFormat.LAYOUT_SHIFT;
  if (plan.inodeSize === ErofsInodeCompact.size) {
    ErofsInodeCompact.encode(view, {
      i_format,
      i_xattr_icount,
      i_mode: plan.mode,
      i_nb: plan.links,
      i_size: plan.size,
      i_mtime: 0,
      i_u: plan.i_u,
      i_ino: ino,
      i_uid: plan.uid,
      i_gid: plan.gid,
    });
  } else {
    ErofsInodeExtended.encode(view, {
      i_format: i_format | InodeFormat.EXTENDED,
      i_xattr_icount,
      i_mode: plan.mode,
      i_size: BigInt(plan.size),
      i_u: plan.i_u,
      i_ino: ino,
      i_uid: plan.uid,
      i_gid: plan.gid,
      i_mtime: BigInt(plan.mtime),
      i_mtime_nsec: plan.mtimeNsec,
      i_nlink: plan.links,
    });
  }
  if (plan.xattrs !== undefined) out.set(plan.xattrs.body(options.xattrFilter), plan.inodeSize);
  const { stored } = plan;
  if (stored instanceof CompressedData) encodeCompressed(plan, stored, view, options);
  else if (stored instanceof PackedData) encodePacked(plan, stored, view);
  else if (stored instanceof ChunkedData) encodeChunks(plan, stored, view);
  if (plan.tailSize > 0) encodeTail(plan, out, options);
}

function encodeCompressed(
  plan: InodePlan,
  data: CompressedData,
  view: DataView,
  options: MetaOptions,
): void {
  const extents = options.extents.words(data.firstExtent, data.extentCount);
  const { size, algorithm, isBig, inlineSize, fragmentAt, isFull } = data;
  const at = plan.headSize + indexPadding(plan.headSize);
  const index = { size, extents, algorithm, isBig, inlineSize, fragmentAt, isFull };
  encodeIndex(index, plan.headSize, view, at);
}

function encodePacked(plan: InodePlan, data: PackedData, view: DataView): void {
  const at = plan.headSize + indexPadding(plan.headSize);
  view.setBigUint64(at, BigInt(data.at), true);
  view.setUint8(at + 7, view.getUint8(at + 7) | Z_EROFS_FRAGMENT_INODE);
}

function encodeChunks(plan: InodePlan, data: ChunkedData, view: DataView): void {
  let at = plan.headSize + data.padding(plan);
  for (const block of data.blocks) {
    if (data.unit === 4) view.setUint32(at, block, true);
    else {
      const device_id = block === NO_BLOCK ? 0 : data.device;
      ErofsInodeChunkIndex.encode(view, { device_id, startblk_lo: block }, at);
    }
    at += data.unit;
  }
}

/** Data behind the inode: of directories and symlinks as it is made, of files from the spool. */
function encodeTail(plan: InodePlan, out: Buffer, options: MetaOptions): void {
  const tail = out.subarray(out.length - plan.tailSize);
  if (plan.type === S.IFREG) options.tails.read(plan.tailAt, tail);
  else ownData(plan).copy(tail, 0, plan.size - plan.tailSize, plan.size);
}

/** Whether an image with this inode needs a reader that knows chunks. */
export const isChunked = (plan: InodePlan): boolean => plan.layout === Layout.CHUNK_BASED;
