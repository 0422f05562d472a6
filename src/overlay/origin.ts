// Origin marks: which lower object an upper object was copied from, as a file handle; and the name of its index entry.
// Written by copy-up, read by lookup to keep inode numbers and hard links.
// Follows: struct ovl_fb of fs/overlayfs/overlayfs.h; handle types of include/linux/exportfs.h, and what ext4, btrfs,
// XFS (xfs_export.h), EROFS and tmpfs put into them.

import type { Layer } from '../layer/layer.js';
import { MAGIC } from '../linux/constants.js';
import { getWord, u8 } from '../linux/memory.js';
import { keyOfUuid, number, shown } from './numbers.js';
import { HANDLE, INDEX_NAME, ORIGIN } from './work.js';

const FB_VERSION = 0;
const FB_MAGIC = 0xfb;
/** Bytes of struct ovl_fb before the handle: version, magic, len, flags, type, uuid[16]. */
export const ORIGIN_HEADER = 21;
const FB_FLAG_BIG_ENDIAN = 1;

const HEX = '0123456789abcdef';

/**
 * Encodes `name` in `dir` of a lower layer as struct ovl_fb at ORIGIN.
 * @returns its length in bytes, or -errno (EOPNOTSUPP where the filesystem has no handles).
 */
export function encodeOrigin(layer: Layer, dir: number, name: number): number {
  const size = layer.handle(dir, name, HANDLE);
  if (size < 0) return size;
  const length = ORIGIN_HEADER + size;
  u8[ORIGIN] = FB_VERSION;
  u8[ORIGIN + 1] = FB_MAGIC;
  u8[ORIGIN + 2] = length;
  u8[ORIGIN + 3] = 0;
  u8[ORIGIN + 4] = u8[HANDLE + 4] as number;
  u8.set(layer.uuid, ORIGIN + 5);
  u8.copyWithin(ORIGIN + ORIGIN_HEADER, HANDLE + 8, HANDLE + 8 + size);
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

/** Types of enum fid_type that carry the inode number. */
const FILEID = {
  INO32_GEN: 1,
  BTRFS_WITHOUT_PARENT: 0x4d,
  BTRFS_WITH_PARENT: 0x4e,
  BTRFS_WITH_PARENT_ROOT: 0x4f,
  INO64_GEN: 0x81,
} as const;

/**
 * The number that the struct ovl_fb of `length` bytes at `at` tells, into `shown`: the UUID in it makes the key, so that the
 * layer need not be in the stack any more; without a UUID, the only lower filesystem that has none does.
 * @returns false when it does not tell (an empty mark, an unknown filesystem).
 */
export function originNumber(lowers: readonly Layer[], at: number, length: number): boolean {
  if (length <= ORIGIN_HEADER || u8[at + 1] !== FB_MAGIC || u8[at] !== FB_VERSION) return false;
  if ((u8[at + 3] as number) & FB_FLAG_BIG_ENDIAN) return false;
  if (
    !readHandle(
      magicOf(lowers, at),
      u8[at + 4] as number,
      at + ORIGIN_HEADER,
      length - ORIGIN_HEADER,
    )
  ) {
    return false;
  }
  const key = isNullUuid(at + 5) ? keyWithoutUuid(lowers) : 0;
  number(key || keyOfUuid(at + 5, found.subvolumeLo, found.subvolumeHi), found.lo, found.hi);
  return true;
}

/** Whether the mark of `length` bytes at ORIGIN tells `lo` and `hi` in every stack: one without a UUID leans on the layers. */
export function tellsEverywhere(
  lowers: readonly Layer[],
  length: number,
  lo: number,
  hi: number,
): boolean {
  if (!originNumber(lowers, ORIGIN, length) || isNullUuid(ORIGIN + 5)) return false;
  return shown.lo === lo && shown.hi === hi;
}

/**
 * Key of the lower filesystem without a UUID; 0: there is none, or several, and nobody can tell which one a mark means.
 * As ovl_lower_uuid_ok() has it: layers of one filesystem count once.
 */
function keyWithoutUuid(lowers: readonly Layer[]): number {
  let key = 0;
  for (const layer of lowers) {
    if (layer.key === key || layer.uuid.some((byte) => byte !== 0)) continue;
    if (key !== 0) return 0;
    key = layer.key;
  }
  return key;
}

function isNullUuid(at: number): boolean {
  for (let i = 0; i < 16; i++) if (u8[at + i] !== 0) return false;
  return true;
}

/** What a handle names: an inode number, and where it is one of a subvolume, that one's id. */
const found = { lo: 0, hi: 0, subvolumeLo: 0, subvolumeHi: 0 };

/**
 * Reads a file handle of `size` bytes at `fid` into `found`.
 * @param magic f_type of the filesystem that made it: one type does not mean one form. undefined: it is not known any more.
 */
function readHandle(magic: number | undefined, type: number, fid: number, size: number): boolean {
  found.subvolumeLo = 0;
  found.subvolumeHi = 0;
  switch (type) {
    case FILEID.INO32_GEN:
      if (size === 12) {
        // tmpfs: generation, then the number in two words. isofs: a block.
        if ((magic ?? MAGIC.TMPFS) !== MAGIC.TMPFS) return false;
        found.lo = getWord(fid + 4);
        found.hi = getWord(fid + 8);
        return true;
      }
      if (size < 8) return false;
      found.lo = getWord(fid);
      found.hi = 0;
      return true;
    case FILEID.INO64_GEN: {
      // FUSE: a nodeid, which stat(2) does not show.
      if (size < 12 || magic === MAGIC.FUSE) return false;
      // XFS writes a number in the order of the machine and a random generation, EROFS the high word first and 0.
      const lowFirst = magic === undefined ? getWord(fid + 8) !== 0 : magic === MAGIC.XFS;
      found.lo = getWord(lowFirst ? fid : fid + 4);
      found.hi = getWord(lowFirst ? fid + 4 : fid);
      return true;
    }
    case FILEID.BTRFS_WITHOUT_PARENT:
    case FILEID.BTRFS_WITH_PARENT:
    case FILEID.BTRFS_WITH_PARENT_ROOT:
      if (size < 20) return false;
      found.lo = getWord(fid);
      found.hi = getWord(fid + 4);
      found.subvolumeLo = getWord(fid + 8);
      found.subvolumeHi = getWord(fid + 12);
      return true;
    default:
      return false;
  }
}

/** f_type of the lower whose filesystem an origin names by UUID. */
function magicOf(lowers: readonly Layer[], at: number): number | undefined {
  for (const layer of lowers) if (hasUuid(layer, at + 5)) return layer.magic;
  return undefined;
}

function hasUuid(layer: Layer, at: number): boolean {
  for (let i = 0; i < 16; i++) if (u8[at + i] !== layer.uuid[i]) return false;
  return true;
}
