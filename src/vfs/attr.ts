// Attribute and entry records: the form in which a filesystem answers stat-like questions.
// Filled by overlay/ and imagefs/ from struct statx or an image's inode; sent by fuse/ without another copy.
// Layout of struct fuse_attr, fuse_entry_out, fuse_attr_out, fuse_kstatfs: include/uapi/linux/fuse.h, ABI 7.45.

import { encodeDevice } from '../linux/device.js';
import { Statx, statBuffer } from '../linux/files.js';
import { u16, u32 } from '../linux/memory.js';

/** struct fuse_attr, byte offsets; 88 bytes. */
export const Attr = {
  ino: 0,
  size: 8,
  blocks: 16,
  atime: 24,
  mtime: 32,
  ctime: 40,
  atimensec: 48,
  mtimensec: 52,
  ctimensec: 56,
  mode: 60,
  nlink: 64,
  uid: 68,
  gid: 72,
  rdev: 76,
  blksize: 80,
  flags: 84,
} as const;
export const ATTR_SIZE = 88;

/** struct fuse_entry_out, byte offsets; 128 bytes. The filesystem fills nodeid, generation and attr; fuse/ the rest. */
export const Entry = {
  nodeid: 0,
  generation: 8,
  entry_valid: 16,
  attr_valid: 24,
  entry_valid_nsec: 32,
  attr_valid_nsec: 36,
  attr: 40,
} as const;
export const ENTRY_SIZE = 128;

/** struct fuse_kstatfs, byte offsets; 80 bytes. */
export const Kstatfs = {
  blocks: 0,
  bfree: 8,
  bavail: 16,
  files: 24,
  ffree: 32,
  bsize: 40,
  namelen: 44,
  frsize: 48,
} as const;
export const KSTATFS_SIZE = 80;

/**
 * Fills the ATTR record at `out` (8-byte aligned) from the struct statx in statBuffer().
 * The inode number is the file's own; the caller replaces it where it derives another.
 */
export function attrFromStat(out: number): void {
  const s = statBuffer() >>> 2;
  const o = out >>> 2;
  u32[o] = u32[s + 8] as number;
  u32[o + 1] = u32[s + 9] as number;
  u32[o + 2] = u32[s + 10] as number;
  u32[o + 3] = u32[s + 11] as number;
  u32[o + 4] = u32[s + 12] as number;
  u32[o + 5] = u32[s + 13] as number;
  u32[o + 6] = u32[s + 16] as number;
  u32[o + 7] = u32[s + 17] as number;
  u32[o + 8] = u32[s + 28] as number;
  u32[o + 9] = u32[s + 29] as number;
  u32[o + 10] = u32[s + 24] as number;
  u32[o + 11] = u32[s + 25] as number;
  u32[o + 12] = u32[s + 18] as number;
  u32[o + 13] = u32[s + 30] as number;
  u32[o + 14] = u32[s + 26] as number;
  u32[o + 15] = u16[(statBuffer() + Statx.mode) >>> 1] as number;
  u32[o + 16] = u32[s + 4] as number;
  u32[o + 17] = u32[s + 5] as number;
  u32[o + 18] = u32[s + 6] as number;
  u32[o + 19] = encodeDevice(u32[s + 32] as number, u32[s + 33] as number);
  u32[o + 20] = u32[s + 1] as number;
  u32[o + 21] = 0;
}
