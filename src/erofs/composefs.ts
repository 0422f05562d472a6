// Writes a composefs image: metadata only, one way to write each tree, so that the image's digest names the tree.
// Called by store/ and by `image build --composefs`; composefs-inodes.ts says what is stored and with which marks.
// Follows: what mkcomposefs of composefs 1.0.8 writes, byte for byte, format versions 0 and 1; erofs_fs.h of Linux 6.18.

import { S } from '../linux/constants.js';
import { show, type TreeNode } from '../tree/tree.js';
import {
  type ComposefsInode,
  type ComposefsTree,
  type ComposefsTreeOptions,
  type ComposefsVersion,
  composefsInodes,
} from './composefs-inodes.js';
import { bodyCount, bodySize, encodeBody } from './composefs-xattrs.js';
import {
  COMPOSEFS_MAGIC,
  ComposefsFlags,
  ComposefsHeader,
  EROFS_SUPER_MAGIC_V1,
  EROFS_SUPER_OFFSET,
  ErofsDirent,
  ErofsInodeCompact,
  ErofsInodeExtended,
  ErofsSuperBlock,
  FeatureCompat,
  InodeFormat,
  Layout,
} from './format.js';
import { encodeBlock } from './plan-dir.js';

const BLOCK = 4096;
const BLOCK_BITS = 12;
const SLOT = 32;
/** Largest chunk: 2^31 blocks. */
const CHUNK_BITS_MAX = 31 + BLOCK_BITS;
/** The superblock, without slots, as composefs writes it. */
const SUPER_SIZE = 128;
const PIECE = 256 * 1024;
const HI = 0x1_0000_0000;

export type { ComposefsVersion } from './composefs-inodes.js';

export interface ComposefsReport {
  readonly version: ComposefsVersion;
  readonly inodes: number;
  readonly bytes: number;
}

/**
 * Writes an image of `tree`. A regular file with `content` is stored in the image; one without, whose size is not 0,
 * lies in the object store: `backing` says where, `digest` (SHA-256) what it must be.
 * @param sink receives the bytes in order; they are borrowed.
 * @throws RangeError that names the path for what an image cannot store, and what a content throws.
 */
export function writeComposefs(
  tree: TreeNode,
  options: ComposefsTreeOptions,
  sink: (bytes: Uint8Array) => void,
): ComposefsReport {
  const plan = composefsInodes(tree, options);
  const writer = new Writer(plan, sink);
  return { version: plan.version, inodes: plan.inodes.length, bytes: writer.run() };
}

interface Time {
  readonly seconds: number;
  readonly nsec: number;
}

/** The earliest of all: compact inodes are those that have it. */
function earliest(inodes: readonly ComposefsInode[]): Time {
  let seconds = Number.POSITIVE_INFINITY;
  let nsec = 0;
  for (const { mtime, mtimeNsec } of inodes) {
    if (mtime < seconds || (mtime === seconds && mtimeNsec < nsec)) {
      seconds = mtime;
      nsec = mtimeNsec;
    }
  }
  return { seconds, nsec };
}

/** Block addresses behind the inode of an external file; all of them say hole. */
export function composefsChunks(size: number): { bits: number; count: number } {
  const last = size - 1;
  const needed = last < HI ? 32 - Math.clz32(last) : 64 - Math.clz32(last / HI);
  const bits = Math.min(Math.max(needed, BLOCK_BITS), CHUNK_BITS_MAX);
  return { bits, count: Math.ceil(size / 2 ** bits) };
}

class Writer {
  readonly #plan: ComposefsTree;
  readonly #epoch: Time;
  readonly #out: Output;
  /** Byte behind the last inode, where the shared xattrs begin. */
  #inodesEnd = 0;
  #dataStart = 0;
  /** Byte of the next block of data. */
  #nextData = 0;
  /** Blocks of data in all. */
  #dataBlocks = 0;

  constructor(plan: ComposefsTree, sink: (bytes: Uint8Array) => void) {
    this.#plan = plan;
    this.#epoch = earliest(plan.inodes);
    this.#out = new Output(sink);
  }

  /** @returns bytes written. */
  run(): number {
    const { inodes, xattrs } = this.#plan;
    this.#place();
    this.#dataStart = roundUp(this.#inodesEnd + xattrs.sharedSize, BLOCK);
    this.#nextData = this.#dataStart;
    this.#head();
    inodes.forEach((inode, number) => {
      this.#inode(inode, number);
    });
    const out = this.#out;
    out.take(this.#inodesEnd - out.written);
    for (const item of xattrs.shared) item.encode(out.take(item.size), 0);
    out.take(this.#dataStart - out.written);
    for (const inode of inodes) if (inode.blocks > 0) this.#data(inode);
    out.finish();
    return out.written;
  }

  /** Gives every inode its place. */
  #place(): void {
    let at = EROFS_SUPER_OFFSET + SUPER_SIZE;
    for (const inode of this.#plan.inodes) {
      try {
        measure(inode);
        inode.isCompact = this.#fitsCompact(inode);
        const size = inode.isCompact ? ErofsInodeCompact.size : ErofsInodeExtended.size;
        inode.headSize = size + bodySize(inode.xattrs);
      } catch (error) {
        throw new RangeError(`${show(inode.path)}: ${(error as Error).message}`, { cause: error });
      }
      at = roundUp(at, SLOT);
      at += padding(inode, at);
      inode.offset = at;
      at += inode.headSize + inode.tailSize;
      this.#dataBlocks += inode.blocks;
    }
    this.#inodesEnd = roundUp(at, SLOT);
  }

  #fitsCompact(inode: ComposefsInode): boolean {
    const size = inode.type === S.IFDIR ? inode.blocks * BLOCK + inode.tailSize : inode.size;
    return (
      inode.mtime === this.#epoch.seconds &&
      inode.mtimeNsec === this.#epoch.nsec &&
      inode.links <= 0xffff &&
      inode.uid <= 0xffff &&
      inode.gid <= 0xffff &&
      size <= 0xffff_ffff
    );
  }

  #head(): void {
    const { inodes, version, hasAcl } = this.#plan;
    const head = this.#out.take(EROFS_SUPER_OFFSET + SUPER_SIZE);
    const view = new DataView(head.buffer, head.byteOffset, head.length);
    ComposefsHeader.encode(view, {
      magic: COMPOSEFS_MAGIC,
      version: 1,
      flags: hasAcl ? ComposefsFlags.HAS_ACL : 0,
      composefs_version: version,
    });
    // Fields that all 128 bytes have: the struct is declared with those of longer superblocks.
    const { at } = ErofsSuperBlock;
    const sb = new DataView(head.buffer, head.byteOffset + EROFS_SUPER_OFFSET, SUPER_SIZE);
    sb.setUint32(at.magic, EROFS_SUPER_MAGIC_V1, true);
    sb.setUint32(at.feature_compat, FeatureCompat.MTIME | FeatureCompat.XATTR_FILTER, true);
    sb.setUint8(at.blkszbits, BLOCK_BITS);
    sb.setUint16(at.rb, (inodes[0] as ComposefsInode).nid, true);
    sb.setUint32(at.inos, inodes.length, true);
    sb.setBigInt64(at.epoch, BigInt(this.#epoch.seconds), true);
    sb.setUint32(at.fixed_nsec, this.#epoch.nsec, true);
    sb.setUint32(at.blocks_lo, this.#dataStart / BLOCK + this.#dataBlocks, true);
    sb.setUint32(at.meta_blkaddr, 0, true);
    sb.setUint32(at.xattr_blkaddr, Math.floor(this.#inodesEnd / BLOCK), true);
  }

  #inode(inode: ComposefsInode, number: number): void {
    const out = this.#out;
    out.take(inode.offset - out.written);
    const bytes = out.take(inode.headSize + inode.tailSize);
    const { type, isCompact, headSize, tailSize } = inode;
    const inodeSize = isCompact ? ErofsInodeCompact.size : ErofsInodeExtended.size;
    let layout: number = tailSize > 0 ? Layout.FLAT_INLINE : Layout.FLAT_PLAIN;
    let size = 0;
    let i_u = 0;
    if (type === S.IFDIR) size = inode.blocks * BLOCK + tailSize;
    else if (type === S.IFREG || type === S.IFLNK) size = inode.size;
    else if (type === S.IFCHR || type === S.IFBLK) i_u = inode.node?.rdev ?? 0;
    if (inode.blocks > 0) {
      i_u = this.#nextData / BLOCK;
      this.#nextData += inode.blocks * BLOCK;
    }
    if (inode.isExternal) {
      layout = Layout.CHUNK_BASED;
      // Both are one field, of which the format is the lower half.
      i_u = ((i_u & 0xffff_0000) | (composefsChunks(size).bits - BLOCK_BITS)) >>> 0;
    }
    const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
    const shared = {
      i_xattr_icount: bodyCount(headSize - inodeSize),
      i_mode: inode.mode,
      i_u,
      i_ino: number,
      i_uid: inode.uid,
      i_gid: inode.gid,
    };
    const i_format = layout << InodeFormat.LAYOUT_SHIFT;
    if (isCompact) {
      const i_nb = inode.links;
      ErofsInodeCompact.encode(view, { ...shared, i_format, i_nb, i_size: size });
    } else {
      ErofsInodeExtended.encode(view, {
        ...shared,
        i_format: i_format | InodeFormat.EXTENDED,
        i_size: BigInt(size),
        i_mtime: BigInt(inode.mtime),
        i_mtime_nsec: inode.mtimeNsec,
        i_nlink: inode.links,
      });
    }
    if (headSize > inodeSize) {
      encodeBody(inode.xattrs, this.#inodesEnd % BLOCK, bytes, inodeSize);
    }
    if (tailSize > 0) encodeTail(inode, bytes.subarray(headSize));
  }

  /** What of an inode lies in blocks of its own. */
  #data(inode: ComposefsInode): void {
    if (inode.type === S.IFDIR) {
      let blocks = 0;
      for (const [first, end] of directoryBlocks(inode)) {
        if (blocks === inode.blocks) break;
        encodeBlock(inode.names, inode.children, first, end, this.#out.take(BLOCK));
        blocks++;
      }
      return;
    }
    const bytes = this.#out.take(inode.blocks * BLOCK);
    if (inode.isExternal) bytes.fill(0xff);
    else ownBytes(inode, bytes.subarray(0, Math.min(bytes.length, inode.size)), 0);
  }
}

const roundUp = (value: number, unit: number): number => Math.ceil(value / unit) * unit;

/** How much data an inode has in blocks and how much behind it, before it has a place. */
function measure(inode: ComposefsInode): void {
  const { type, size } = inode;
  let blocks = 0;
  let tail = 0;
  if (type === S.IFDIR) {
    for (const [first, end, used] of directoryBlocks(inode)) {
      // More than half a block never lies with the inode.
      if (end < inode.names.length || used > BLOCK / 2 || first === end) blocks++;
      else tail = used;
    }
  } else if (type === S.IFLNK) {
    tail = inode.node?.target?.length ?? 0;
    if (tail === 0 || tail >= BLOCK) throw new RangeError(`a symlink's target has ${tail} bytes`);
  } else if (inode.isExternal) {
    tail = composefsChunks(size).count * 4;
  } else if (type === S.IFREG && size > 0) {
    blocks = Math.floor(size / BLOCK);
    tail = size % BLOCK;
    if (tail > BLOCK / 2) {
      blocks++;
      tail = 0;
    }
  }
  inode.blocks = blocks;
  inode.tailSize = tail;
}

/** Bytes to leave free before an inode, so that what lies behind it is in one block; what never can be is moved to a block. */
function padding(inode: ComposefsInode, at: number): number {
  const { headSize, tailSize } = inode;
  const toNextBlock = roundUp(at, BLOCK) - at;
  if (inode.type === S.IFLNK) {
    // The whole inode shall be in one block.
    const total = headSize + tailSize;
    const crosses = Math.floor(at / BLOCK) !== Math.floor((at + total - 1) / BLOCK);
    if (total >= BLOCK) {
      inode.blocks++;
      inode.tailSize = 0;
    }
    return crosses ? toNextBlock : 0;
  }
  const room = BLOCK - ((at + headSize) % BLOCK);
  if (room >= tailSize) return 0;
  const shift = roundUp(room, SLOT);
  if (tailSize <= BLOCK - ((at + headSize + shift) % BLOCK)) return shift;
  inode.blocks++;
  inode.tailSize = 0;
  return toNextBlock;
}

/** The names of a directory as they fall into blocks: first, end, bytes used. */
function* directoryBlocks(dir: ComposefsInode): Generator<[number, number, number]> {
  const { names } = dir;
  let first = 0;
  let used = 0;
  for (let i = 0; i < names.length; i++) {
    const length = ErofsDirent.size + (names[i] as string).length;
    if (used + length > BLOCK) {
      yield [first, i, used];
      first = i;
      used = 0;
    }
    used += length;
  }
  yield [first, names.length, used];
}

/** What lies behind an inode. */
function encodeTail(inode: ComposefsInode, out: Buffer): void {
  if (inode.type === S.IFDIR) {
    let first = 0;
    for (const [from] of directoryBlocks(inode)) first = from;
    encodeBlock(inode.names, inode.children, first, inode.names.length, out);
  } else if (inode.isExternal) {
    out.fill(0xff);
  } else {
    ownBytes(inode, out, inode.size - out.length);
  }
}

/** Content of a file or symlink from byte `at` on. */
function ownBytes(inode: ComposefsInode, out: Buffer, at: number): void {
  if (inode.type === S.IFLNK) {
    out.write(inode.node?.target?.slice(at) as string, 0, 'latin1');
    return;
  }
  const content = inode.node?.content?.open();
  try {
    content?.read(at, out);
    content?.check?.();
  } finally {
    content?.close();
  }
}

/** Bytes in order, handed on in pieces. */
class Output {
  readonly #sink: (bytes: Uint8Array) => void;
  #bytes = Buffer.alloc(PIECE);
  #used = 0;
  #done = 0;

  constructor(sink: (bytes: Uint8Array) => void) {
    this.#sink = sink;
  }

  get written(): number {
    return this.#done + this.#used;
  }

  /** The next `size` bytes, zeroed; valid until the next call. */
  take(size: number): Buffer {
    if (this.#used + size > this.#bytes.length) {
      this.finish();
      if (size > this.#bytes.length) this.#bytes = Buffer.alloc(size);
    }
    const from = this.#used;
    this.#used += size;
    return this.#bytes.subarray(from, this.#used);
  }

  finish(): void {
    if (this.#used === 0) return;
    this.#sink(this.#bytes.subarray(0, this.#used));
    this.#bytes.fill(0, 0, this.#used);
    this.#done += this.#used;
    this.#used = 0;
  }
}
