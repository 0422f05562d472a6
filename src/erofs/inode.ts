// Inodes: 32 or 64 bytes of metadata, checked and narrowed.
// Read for every request that names a file; the rest of this room takes the result.
// Follows: erofs_read_inode() of Linux 6.18.

import { corrupt, unsupported } from './errors.js';
import { ChunkFormat, InodeFormat, Layout } from './format.js';
import type { CompressionInfo } from './mapping.js';
import { inMetabox, type Nid, slotOffset } from './nid.js';
import type { Volume } from './volume.js';

/** One inode. A value: it stays good when caches turn over. */
export interface Inode {
  readonly nid: Nid;
  /** st_mode, with the type. */
  readonly mode: number;
  readonly uid: number;
  readonly gid: number;
  readonly nlink: number;
  /** Bytes. */
  readonly size: number;
  /** Seconds, may be negative; beyond 2^53 the nearest number. */
  readonly mtime: number;
  readonly mtimeNsec: number;
  /** Of devices: new_encode_dev() form (minor low 8 bits, major 12 bits, minor high bits); else 0. */
  readonly rdev: number;
  /** One of Layout. */
  readonly layout: number;
  /** 512-byte sectors, as stat(2) counts them. */
  readonly blocks512: number;
  /** Byte offset of the inode in the image or the metabox, and where it is. */
  readonly at: number;
  readonly metabox: boolean;
  /** Bytes of the inode itself: 32 or 64. */
  readonly isize: number;
  /** Bytes of inline xattrs with their header, which follow the inode. */
  readonly xattrSize: number;
  /** First block (FLAT_*), -1: all zeros; blocks in use (compressed). */
  readonly startBlock: number;
  /** Low half of i_u of CHUNK_BASED inodes. */
  readonly chunkFormat: number;
  /** Directories without an entry for themselves. */
  readonly dotOmitted: boolean;
  /** Kept by z-header.ts once it is read. */
  z: CompressionInfo | undefined;
}

const S_IFMT = 0o170000;
const S_IFDIR = 0o040000;
const S_IFCHR = 0o020000;
const S_IFBLK = 0o060000;
const S_IFREG = 0o100000;
const S_IFLNK = 0o120000;
const S_IFIFO = 0o010000;
const S_IFSOCK = 0o140000;
const HI = 0x1_0000_0000;

/** @throws ErofsError where no inode can be. */
export function readInode(volume: Volume, nid: Nid): Inode {
  const { sb } = volume;
  const metabox = inMetabox(nid);
  const meta = volume.space(metabox);
  const at = slotOffset(nid) + (metabox ? 0 : sb.metaAt);
  const { view } = meta;
  let o = meta.at(at, 32, 'erofs_inode', 'i_format');
  const format = view.getUint16(o, true);
  if ((format & ~InodeFormat.ALL) !== 0) {
    unsupported('erofs_inode', 'i_format', at, `0x${format.toString(16)} of nid ${nid}`);
  }
  const layout = (format >>> InodeFormat.LAYOUT_SHIFT) & InodeFormat.LAYOUT_MASK;
  if (layout > Layout.CHUNK_BASED) {
    unsupported('erofs_inode', 'i_format', at, `data layout ${layout} of nid ${nid}`);
  }
  const icount = view.getUint16(o + 2, true);
  const xattrSize = icount === 0 ? 0 : 12 + 4 * (icount - 1);
  const mode = view.getUint16(o + 4, true);
  const type = mode & S_IFMT;
  let high = view.getUint16(o + 6, true);
  const low = view.getUint32(o + 16, true);
  let nullHigh = 0xffff;
  let isize = 32;
  let nlink: number;
  let size: number;
  let uid: number;
  let gid: number;
  let mtime: number;
  let mtimeNsec: number;
  if ((format & InodeFormat.EXTENDED) === 0) {
    uid = view.getUint16(o + 24, true);
    gid = view.getUint16(o + 26, true);
    size = view.getUint32(o + 8, true);
    mtime = sb.epoch + view.getUint32(o + 12, true);
    mtimeNsec = sb.fixedNsec;
    if (type !== S_IFDIR && (format & InodeFormat.NLINK_1) !== 0) {
      nlink = 1;
    } else {
      nlink = high;
      high = 0;
      nullHigh = 0;
    }
  } else {
    isize = 64;
    o = meta.at(at, 64, 'erofs_inode', 'i_size');
    uid = view.getUint32(o + 24, true);
    gid = view.getUint32(o + 28, true);
    size = view.getUint32(o + 8, true) + view.getUint32(o + 12, true) * HI;
    mtime = view.getUint32(o + 32, true) + view.getInt32(o + 36, true) * HI;
    mtimeNsec = view.getUint32(o + 40, true);
    nlink = view.getUint32(o + 44, true);
  }
  if (size > Number.MAX_SAFE_INTEGER) {
    corrupt('erofs_inode', 'i_size', at + 8, `${size} bytes: no file is so large (nid ${nid})`);
  }
  if (mtimeNsec > 999_999_999) {
    corrupt('erofs_inode', 'i_mtime_nsec', at, `${mtimeNsec} of nid ${nid} is not below a second`);
  }

  let startBlock = -1;
  let chunkFormat = 0;
  let rdev = 0;
  if (type === S_IFREG || type === S_IFDIR || type === S_IFLNK) {
    if (layout === Layout.CHUNK_BASED) {
      chunkFormat = low & 0xffff;
      if ((chunkFormat & ~ChunkFormat.ALL) !== 0) {
        const what = `chunk format 0x${chunkFormat.toString(16)} of nid ${nid}`;
        unsupported('erofs_inode', 'i_u.c.format', at + 16, what);
      }
    } else if (layout !== Layout.FLAT_PLAIN || low !== 0xffffffff || high !== nullHigh) {
      startBlock = low + high * HI;
    }
  } else if (type === S_IFCHR || type === S_IFBLK) {
    rdev = low;
  } else if (type !== S_IFIFO && type !== S_IFSOCK) {
    corrupt('erofs_inode', 'i_mode', at + 4, `0${mode.toString(8)} of nid ${nid} is no file type`);
  }
  const compressed = layout === Layout.COMPRESSED_FULL || layout === Layout.COMPRESSED_COMPACT;
  return {
    nid,
    mode,
    uid,
    gid,
    nlink,
    size,
    mtime,
    mtimeNsec,
    rdev,
    layout,
    blocks512:
      (compressed ? Math.max(0, startBlock) : Math.ceil(size / sb.blockSize)) *
      (sb.blockSize / 512),
    at,
    metabox,
    isize,
    xattrSize,
    startBlock,
    chunkFormat,
    dotOmitted: type === S_IFDIR && (format & InodeFormat.DOT_OMITTED) !== 0,
    z: undefined,
  };
}

/** Byte behind the inode and its xattrs: inline data, chunk addresses, compression header. */
export function tailAt(inode: Inode): number {
  return inode.at + inode.isize + inode.xattrSize;
}
