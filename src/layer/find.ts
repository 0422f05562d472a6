// From an inode number to a path inside a directory layer, where its filesystem opens inodes by number.
// Called by layer/directory.ts when a file handle names what nobody has looked up yet.
// Follows: fs/ext4/super.c, fs/xfs/xfs_export.c, fs/squashfs/export.c and fs/erofs/super.c for what their handles hold.

import { AT, MAGIC, O } from '../linux/constants.js';
import { close, procPath, readlinkAt } from '../linux/files.js';
import { openByHandle, xfsGeneration } from '../linux/handles.js';
import { getBytes, scratch, u32 } from '../linux/memory.js';

// Scratch of this thread that no system call wrapper uses: a handle, then a path.
const HANDLE_AT = 0x24000;
const PATH_AT = 0x25000;
const PATH_SIZE = 8192;

/** enum fid_type of include/linux/exportfs.h; XFS has 0x80 for long numbers. */
const FILEID = { INO32_GEN: 1, INO64_GEN: 0x81 } as const;

function putHandle(type: number, words: readonly number[]): number {
  const at = scratch + HANDLE_AT;
  const k = at >>> 2;
  u32[k] = words.length * 4;
  u32[k + 1] = type;
  for (let i = 0; i < words.length; i++) u32[k + 2 + i] = words[i] as number;
  return at;
}

/** Forms the handle of an inode. @returns its place, or 0: none has this number, or this filesystem has other handles. */
function handleOf(magic: number, mountFd: number, lo: number, hi: number): number {
  switch (magic) {
    case MAGIC.EXT4:
      // A generation of 0 fits any.
      return hi === 0 ? putHandle(FILEID.INO32_GEN, [lo, 0]) : 0;
    case MAGIC.SQUASHFS:
      return hi === 0 ? putHandle(FILEID.INO32_GEN, [lo, 0]) : 0;
    case MAGIC.EROFS:
      return putHandle(FILEID.INO64_GEN, [hi, lo, 0]);
    case MAGIC.XFS: {
      const generation = xfsGeneration(mountFd, lo, hi);
      return generation === undefined ? 0 : putHandle(FILEID.INO64_GEN, [lo, hi, generation]);
    }
    default:
      return 0;
  }
}

function linkOf(fd: number): string | undefined {
  const length = readlinkAt(AT.FDCWD, procPath(fd), scratch + PATH_AT, PATH_SIZE);
  return length < 0 ? undefined : getBytes(scratch + PATH_AT, length);
}

/**
 * Where the kernel says that an inode lies, seen from `rootFd`: always right for directories; for other objects only
 * while the kernel has their name in memory, and a wrong path else.
 * @param mountFd a real descriptor on the mount of `rootFd`.
 */
export function pathOfInode(
  magic: number,
  mountFd: number,
  rootFd: number,
  lo: number,
  hi: number,
): string | undefined {
  const handle = handleOf(magic, mountFd, lo, hi);
  if (handle === 0) return undefined;
  const fd = openByHandle(mountFd, handle, O.PATH | O.NOFOLLOW);
  if (fd < 0) return undefined;
  const path = linkOf(fd);
  close(fd);
  const root = linkOf(rootFd);
  if (path === undefined || root === undefined) return undefined;
  if (path === root) return '';
  // A private clone of a mount has its own root, "/".
  const prefix = root === '/' ? root : `${root}/`;
  return path.startsWith(prefix) ? path.slice(prefix.length) : undefined;
}
