// The indexes of a compressed file: from its extents to the bytes behind the inode, compact or full.
// Called by layout.ts for the size and by write-meta.ts for the bytes; the reader's counterpart decodes them.
// Follows: erofs_fs.h of Linux 6.18 (z_erofs_map_header, z_erofs_lcluster_index) and what fs/erofs/zmap.c reads.

import {
  ClusterType,
  Z_EROFS_LI_D0_CBLKCNT,
  ZAdvise,
  ZErofsLclusterIndex,
  ZErofsMapHeader,
} from './format.js';
import { BLOCK, BLOCK_BITS } from './write-options.js';

/** Words of an extent in a Uint32Array: length in bytes with EXTENT_* flags, blocks on disk, first block. */
export const EXTENT_WORDS = 3;
/** The length is in the lower 24 bits of the first word. */
export const EXTENT_LENGTH_MASK = 0x00ff_ffff;
/** Stored as it is, in one block. */
export const EXTENT_RAW = 0x0100_0000;
/** Lies in the packed file; takes no block here. */
export const EXTENT_FRAGMENT = 0x0200_0000;
/** Lies behind the indexes; takes no block. */
export const EXTENT_INLINE = 0x0400_0000;

const HEADER_SIZE = ZErofsMapHeader.size;
const INDEX_SIZE = ZErofsLclusterIndex.size;

/** What the indexes of a file say, addresses apart. */
export interface FileIndex {
  /** Bytes of the file. */
  readonly size: number;
  /** EXTENT_WORDS for each extent, in order; together they are the file. */
  readonly extents: Uint32Array;
  /** Algorithm as in format.ts. */
  readonly algorithm: number;
  /** Pclusters may take more than a block. */
  readonly isBig: boolean;
  /** Bytes of an inline pcluster, 0: there is none. */
  readonly inlineSize: number;
  /** Byte in the packed file where the last extent lies; undefined: it has no fragment. */
  readonly fragmentAt: number | undefined;
  /** 8-byte indexes: pclusters that do not follow each other, or a fragment beyond 4 GiB. */
  readonly isFull: boolean;
}

/** Bytes between the end of inode and xattrs and the map header: it lies at a multiple of 8. */
export const indexPadding = (inodeEnd: number): number => (8 - (inodeEnd % 8)) % 8;

/** How the entries are divided into packs: pairs until a multiple of 32 bytes, sixteens, pairs. */
interface Packs {
  readonly first: number;
  readonly sixteens: number;
  readonly last: number;
}

/** @param inodeEnd bytes of inode and xattrs; inodes lie at multiples of 32. */
function packs(inodeEnd: number, count: number): Packs {
  const start = inodeEnd + indexPadding(inodeEnd) + HEADER_SIZE;
  const first = ((32 - (start % 32)) / 4) % 8;
  if (first > count) return { first: 0, sixteens: 0, last: count };
  const sixteens = Math.floor((count - first) / 16) * 16;
  return { first, sixteens, last: count - first - sixteens };
}

/** Bytes of header and indexes of a file of `size` bytes, the padding before them not included. */
export function indexBytes(inodeEnd: number, size: number, isFull: boolean): number {
  const count = Math.ceil(size / BLOCK);
  if (isFull) return HEADER_SIZE + 8 + count * INDEX_SIZE;
  const { first, sixteens, last } = packs(inodeEnd, count);
  return HEADER_SIZE + first * 4 + sixteens * 2 + Math.ceil(last / 2) * 8;
}

/** True when the pclusters lie one behind the other, as compact indexes need it. */
export function isContiguous(extents: Uint32Array): boolean {
  let expected = -1;
  for (let i = 0; i < extents.length; i += EXTENT_WORDS) {
    if ((extents[i] as number) & (EXTENT_FRAGMENT | EXTENT_INLINE)) continue;
    const at = extents[i + 2] as number;
    if (expected >= 0 && at !== expected) return false;
    expected = at + (extents[i + 1] as number);
  }
  return true;
}

/** One entry for each lcluster, in columns. */
interface Entries {
  readonly count: number;
  readonly type: Uint8Array;
  /** Heads: bytes into the lcluster. Others: distance to the head, or CBLKCNT and blocks. */
  readonly low: Uint16Array;
  /** Others: distance to the next head. */
  readonly high: Uint16Array;
  /** Heads: first block. */
  readonly block: Uint32Array;
  /** Heads: blocks that their pcluster takes. */
  readonly blocks: Uint16Array;
}

function entriesOf(file: FileIndex): Entries {
  const count = Math.ceil(file.size / BLOCK);
  const entries: Entries = {
    count,
    type: new Uint8Array(count),
    low: new Uint16Array(count),
    high: new Uint16Array(count),
    block: new Uint32Array(count),
    blocks: new Uint16Array(count),
  };
  const { extents } = file;
  const { type, low, high, block, blocks } = entries;
  let at = 0;
  for (let i = 0; i < extents.length; i += EXTENT_WORDS) {
    const word = extents[i] as number;
    const plen = extents[i + 1] as number;
    const end = at + (word & EXTENT_LENGTH_MASK);
    const head = Math.floor(at / BLOCK);
    const next = Math.floor(end / BLOCK);
    type[head] = word & EXTENT_RAW ? ClusterType.PLAIN : ClusterType.HEAD1;
    low[head] = at % BLOCK;
    block[head] = extents[i + 2] as number;
    blocks[head] = plen;
    for (let lcn = head + 1; lcn < next; lcn++) {
      type[lcn] = ClusterType.NONHEAD;
      const distance = Math.min(lcn - head, Z_EROFS_LI_D0_CBLKCNT - 1);
      low[lcn] = file.isBig && lcn === head + 1 ? Z_EROFS_LI_D0_CBLKCNT | plen : distance;
      high[lcn] = Math.min(next - lcn, 0xffff);
    }
    at = end;
  }
  // What the last extent leaves of the last lcluster belongs to a head of its own, behind the end of the file.
  if (at % BLOCK !== 0 && extents.length > 0) {
    const lcn = count - 1;
    const lastLength = (extents[extents.length - EXTENT_WORDS] as number) & EXTENT_LENGTH_MASK;
    if (Math.floor((at - lastLength) / BLOCK) < lcn) {
      type[lcn] = ClusterType.PLAIN;
      low[lcn] = at % BLOCK;
    }
  }
  return entries;
}

/** Writes header and indexes to `out` at `at`, where they take indexBytes(). @param inodeEnd as there. */
export function encodeIndex(file: FileIndex, inodeEnd: number, out: DataView, at: number): void {
  const { fragmentAt, inlineSize, isBig, isFull } = file;
  let advise = isFull ? 0 : ZAdvise.COMPACTED_2B;
  if (isBig) advise |= ZAdvise.BIG_PCLUSTER_1 | ZAdvise.BIG_PCLUSTER_2;
  if (inlineSize > 0) advise |= ZAdvise.INLINE_PCLUSTER;
  if (fragmentAt !== undefined) advise |= ZAdvise.FRAGMENT_PCLUSTER;
  ZErofsMapHeader.encode(
    out,
    {
      h_fragmentoff: fragmentAt === undefined ? inlineSize * 0x10000 : fragmentAt % 0x1_0000_0000,
      h_advise: advise,
      h_algorithmtype: file.algorithm,
    },
    at,
  );
  const entries = entriesOf(file);
  if (isFull) {
    if (fragmentAt !== undefined) setFragmentBlock(file, entries, fragmentAt);
    encodeFull(entries, out, at + HEADER_SIZE);
  } else {
    encodeCompact(entries, packs(inodeEnd, entries.count), isBig, out, at + HEADER_SIZE);
  }
}

/** In full indexes the head of the fragment has the upper half of its position for a block. */
function setFragmentBlock(file: FileIndex, entries: Entries, fragmentAt: number): void {
  const { extents, size } = file;
  const length = (extents[extents.length - EXTENT_WORDS] as number) & EXTENT_LENGTH_MASK;
  entries.block[Math.floor((size - length) / BLOCK)] = Math.floor(fragmentAt / 0x1_0000_0000);
}

function encodeFull(entries: Entries, out: DataView, start: number): void {
  const { count, type, low, high, block } = entries;
  // 8 bytes without meaning, for historical reasons.
  out.setBigUint64(start, 0n, true);
  let at = start + 8;
  for (let lcn = 0; lcn < count; lcn++) {
    const isHead = type[lcn] !== ClusterType.NONHEAD;
    out.setUint16(at, type[lcn] as number, true);
    out.setUint16(at + 2, isHead ? (low[lcn] as number) : 0, true);
    if (isHead) out.setUint32(at + 4, block[lcn] as number, true);
    else {
      out.setUint16(at + 4, low[lcn] as number, true);
      out.setUint16(at + 6, high[lcn] as number, true);
    }
    at += INDEX_SIZE;
  }
}

function encodeCompact(
  entries: Entries,
  { first, sixteens, last }: Packs,
  isBig: boolean,
  out: DataView,
  start: number,
): void {
  let at = start;
  let lcn = 0;
  for (let i = 0; i < first; i += 2, lcn += 2) at = encodePack(entries, lcn, 2, 16, isBig, out, at);
  for (let i = 0; i < sixteens; i += 16, lcn += 16) {
    at = encodePack(entries, lcn, 16, 14, isBig, out, at);
  }
  for (let i = 0; i < last; i += 2, lcn += 2) at = encodePack(entries, lcn, 2, 16, isBig, out, at);
}

/** A pack of `capacity` entries of `bits` bits, and the block that their blocks are counted from. */
function encodePack(
  entries: Entries,
  first: number,
  capacity: number,
  bits: number,
  isBig: boolean,
  out: DataView,
  at: number,
): number {
  const { count, type, low, high } = entries;
  const end = at + ((capacity * bits) >>> 3);
  for (let byte = at; byte < end; byte++) out.setUint8(byte, 0);
  const n = Math.min(capacity, count - first);
  for (let i = 0; i < n; i++) {
    const lcn = first + i;
    const isHead = type[lcn] !== ClusterType.NONHEAD;
    let value = low[lcn] as number;
    // The last entry says how far the next head is: readers find its own head through the one before.
    if (!isHead && i === capacity - 1 && (value & Z_EROFS_LI_D0_CBLKCNT) === 0) {
      value = Math.min(high[lcn] as number, Z_EROFS_LI_D0_CBLKCNT - 1);
    }
    value |= (type[lcn] as number) << BLOCK_BITS;
    const position = i * bits;
    const byte = at + (position >>> 3);
    const shifted = value << (position & 7);
    out.setUint8(byte, out.getUint8(byte) | (shifted & 0xff));
    out.setUint8(byte + 1, (shifted >>> 8) & 0xff);
    if (shifted > 0xffff) out.setUint8(byte + 2, shifted >>> 16);
  }
  out.setUint32(end, packBase(entries, first, n, isBig), true);
  return end + 4;
}

/** Readers add the blocks of the pack's earlier pclusters to this one; without big pclusters one more. */
function packBase(entries: Entries, first: number, n: number, isBig: boolean): number {
  const { type, low, block, blocks } = entries;
  if (!isBig) {
    for (let i = first; i < first + n; i++) {
      if (type[i] !== ClusterType.NONHEAD) return ((block[i] as number) - 1) >>> 0;
    }
    return 0;
  }
  if (type[first] !== ClusterType.NONHEAD) return block[first] as number;
  let head = first;
  while (head > 0 && type[head] === ClusterType.NONHEAD) head--;
  const start = block[head] as number;
  const isCount = ((low[first] as number) & Z_EROFS_LI_D0_CBLKCNT) !== 0;
  return isCount ? start : start + (blocks[head] as number);
}
