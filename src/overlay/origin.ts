// Origin marks: which lower object an upper object was copied from, as a file handle; and the name of its index entry.
// Written by copy-up, read by lookup to keep inode numbers and hard links.
// Follows: struct ovl_fb of fs/overlayfs/overlayfs.h; handle types of include/linux/exportfs.h, and what ext4, btrfs,
// XFS (xfs_export.h), EROFS and tmpfs put into them.

import type { Layer } from '../layer/layer.js';
import { u8 } from '../linux/memory.js';
import { HANDLE, INDEX_NAME, ORIGIN } from './work.js';

const FB_VERSION = 0;
const FB_MAGIC = 0xfb;
/** Bytes of struct ovl_fb before the handle: version, magic, len, flags, type, uuid[16]. */
const FB_HEADER = 21;
const FB_FLAG_BIG_ENDIAN = 1;

const HEX = '0123456789abcdef';

/**
 * Encodes `name` in `dir` of a lower layer as struct ovl_fb at ORIGIN.
 * @returns its length in bytes, or -errno (EOPNOTSUPP where the filesystem has no handles).
 */
export function encodeOrigin(layer: Layer, dir: number, name: number): number {
  const size = layer.handle(dir, name, HANDLE);
  if (size < 0) return size;
  const length = FB_HEADER + size;
  u8[ORIGIN] = FB_VERSION;
  u8[ORIGIN + 1] = FB_MAGIC;
  u8[ORIGIN + 2] = length;
  u8[ORIGIN + 3] = 0;
  u8[ORIGIN + 4] = u8[HANDLE + 4] as number;
  u8.set(layer.uuid, ORIGIN + 5);
  u8.copyWithin(ORIGIN + FB_HEADER, HANDLE + 8, HANDLE + 8 + size);
  return length;
}

/** Writes the `length` bytes at ORIGIN in hex, NUL-terminated, to INDEX_NAME; the name of an index entry. */
export function indexName(length: number): number {
  for (let i = 0; i < length; i++) {
    const b = u8[ORIGIN + i] as number;
    u8[INDEX_NAME + 2 * i] = HEX.charCodeAt(b >>> 4);
    u8[INDEX_NAME + 2 * i + 1] = HEX.charCodeAt(b & 15);
  }
  u8[INDEX_NAME + 2 * length] = 0;
  return 2 * length;
}

/** Inode number found by originIno(), as two halves. */
export const found = { lo: 0, hi: 0 };

function word(at: number): number {
  return (
    ((u8[at] as number) |
      ((u8[at + 1] as number) << 8) |
      ((u8[at + 2] as number) << 16) |
      ((u8[at + 3] as number) << 24)) >>>
    0
  );
}

/** Types of enum fid_type that carry the inode number. */
const FILEID = {
  INO32_GEN: 1,
  BTRFS_WITHOUT_PARENT: 0x4d,
  BTRFS_WITH_PARENT: 0x4e,
  BTRFS_WITH_PARENT_ROOT: 0x4f,
  INO64_GEN: 0x81,
} as const;

/** f_type of filesystems that use the common types in a way of their own. */
const MAGIC = { TMPFS: 0x01021994, XFS: 0x58465342, FUSE: 0x65735546 } as const;

/**
 * The inode number inside the struct ovl_fb of `length` bytes at `at`, into `found`.
 * @param magic f_type of the filesystem that made the handle: one type does not mean one form.
 * @returns false when the handle does not tell (an empty mark, an unknown filesystem).
 */
export function originIno(magic: number, at: number, length: number): boolean {
  if (length <= FB_HEADER || u8[at + 1] !== FB_MAGIC || u8[at] !== FB_VERSION) return false;
  if ((u8[at + 3] as number) & FB_FLAG_BIG_ENDIAN) return false;
  const fid = at + FB_HEADER;
  const size = length - FB_HEADER;
  switch (u8[at + 4]) {
    case FILEID.INO32_GEN:
      if (size === 12) {
        // tmpfs: generation, then the number in two words. isofs: a block.
        if (magic !== MAGIC.TMPFS) return false;
        found.lo = word(fid + 4);
        found.hi = word(fid + 8);
        return true;
      }
      if (size < 8) return false;
      found.lo = word(fid);
      found.hi = 0;
      return true;
    case FILEID.INO64_GEN:
      // FUSE: a nodeid, which stat(2) does not show.
      if (size < 8 || magic === MAGIC.FUSE) return false;
      if (magic === MAGIC.XFS) {
        found.lo = word(fid);
        found.hi = word(fid + 4);
      } else {
        found.hi = word(fid);
        found.lo = word(fid + 4);
      }
      return true;
    case FILEID.BTRFS_WITHOUT_PARENT:
    case FILEID.BTRFS_WITH_PARENT:
    case FILEID.BTRFS_WITH_PARENT_ROOT:
      if (size < 8) return false;
      found.lo = word(fid);
      found.hi = word(fid + 4);
      return true;
    default:
      return false;
  }
}

/** The lower layer whose filesystem an origin names by UUID, or undefined. */
export function originLayer(lowers: readonly Layer[], at: number): Layer | undefined {
  return lowers.find((layer) => {
    for (let i = 0; i < 16; i++) if (u8[at + 5 + i] !== layer.uuid[i]) return false;
    return true;
  });
}
