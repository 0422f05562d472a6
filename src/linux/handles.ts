// File handles and filesystem UUIDs: what names an inode independently of its path.
// Used by layer/ for origin marks and the index directory.
// Follows: name_to_handle_at(2), open_by_handle_at(2); include/uapi/linux/{fs,btrfs}.h, fs/ext4/ext4.h, fs/xfs/libxfs/xfs_fs.h.

import { AT, O } from './constants.js';
import { ioctlAt } from './files.js';
import { func, ret } from './libc.js';
import { base, scratch, u8, u32 } from './memory.js';

const nameToHandleAt = func(
  'int name_to_handle_at(int dirfd, uint64_t path, uint64_t handle, uint64_t mountid, int flags)',
);
const openByHandleAt = func('int open_by_handle_at(int mountdirfd, uint64_t handle, int flags)');

/** Largest handle, bytes (MAX_HANDLE_SZ). */
export const MAX_HANDLE = 128;

/** struct file_handle at `out`: u32 handle_bytes, i32 handle_type, bytes. 8 + MAX_HANDLE bytes of room. */
export function nameToHandle(dirfd: number, name: number, out: number): number {
  const k = out >>> 2;
  u32[k] = MAX_HANDLE;
  const r = ret(nameToHandleAt(dirfd, base + name, base + out, base + scratch + 88, AT.EMPTY_PATH));
  return r < 0 ? r : (u32[k] as number);
}

/**
 * Opens what the struct file_handle at `handle` names. Needs CAP_DAC_READ_SEARCH in the initial user namespace.
 * @param mountFd a real (not O_PATH) descriptor on the mount through which it is opened.
 * @returns a descriptor or -errno (ESTALE: there is no such object).
 */
export function openByHandle(mountFd: number, handle: number, flags: number): number {
  return ret(openByHandleAt(mountFd, base + handle, flags | O.CLOEXEC));
}

/** XFS_IOC_BULKSTAT, Linux 5.4: struct xfs_bulk_ireq, 64 bytes, then struct xfs_bulkstat, 192 bytes. */
const XFS_BULKSTAT = {
  request: 0x8040587f,
  icount: 12,
  ocount: 16,
  answer: 64,
  bs_gen: 64,
} as const;

/**
 * The generation that a handle of this inode of an XFS must carry. Needs CAP_SYS_ADMIN.
 * @returns undefined when there is no such inode. @param fd a real descriptor on the filesystem.
 */
export function xfsGeneration(fd: number, inoLo: number, inoHi: number): number | undefined {
  const at = scratch + 1024;
  const answer = (at + XFS_BULKSTAT.answer) >>> 2;
  u8.fill(0, at, at + 256);
  u32[at >>> 2] = inoLo;
  u32[(at >>> 2) + 1] = inoHi;
  u32[(at + XFS_BULKSTAT.icount) >>> 2] = 1;
  if (ioctlAt(fd, XFS_BULKSTAT.request, at) < 0) return undefined;
  // It begins at the first inode that is in use.
  if (u32[(at + XFS_BULKSTAT.ocount) >>> 2] !== 1) return undefined;
  if (u32[answer] !== inoLo || u32[answer + 1] !== inoHi) return undefined;
  return u32[answer + XFS_BULKSTAT.bs_gen / 4] as number;
}

/** How filesystems tell their UUID: ioctl, where it lies in the answer, and the u32 that the question begins with. */
const UUID_CALLS = [
  // FS_IOC_GETFSUUID, Linux 6.9: struct fsuuid2 { u8 len; u8 uuid[16]; }
  { request: 0x80111500, at: 1, asks: 0 },
  // EXT4_IOC_GETFSUUID, Linux 6.0: struct fsuuid { u32 fsu_len; u32 fsu_flags; u8 fsu_uuid[]; }
  { request: 0x8008662c, at: 8, asks: 16 },
  // XFS_IOC_FSGEOMETRY_V1: struct xfs_fsop_geom_v1, behind eight u32 and four u64.
  { request: 0x80705864, at: 64, asks: 0 },
  // BTRFS_IOC_FS_INFO: struct btrfs_ioctl_fs_info_args { u64 max_id; u64 num_devices; u8 fsid[16]; ... }, 1 KiB
  { request: 0x8400941f, at: 16, asks: 0 },
] as const;

/**
 * The filesystem's UUID (16 bytes) as overlayfs uses it, or undefined when the kernel does not tell.
 * @param fd a real (not O_PATH) descriptor on it.
 * @param newer false: as on kernels before 6.9, which have no common call (a test).
 */
export function filesystemUuid(fd: number, newer = true): Uint8Array | undefined {
  const answer = scratch + 1024;
  for (const { request, at, asks } of newer ? UUID_CALLS : UUID_CALLS.slice(1)) {
    u8.fill(0, answer, answer + 1024);
    u32[answer >>> 2] = asks;
    if (ioctlAt(fd, request, answer) >= 0) return u8.slice(answer + at, answer + at + 16);
  }
  return undefined;
}

/** XFS_IOC_FSGEOMETRY_V1, and fields of its struct: blocks, blocks of an allocation group, groups, bytes of an inode. */
const XFS_GEOMETRY = { request: 0x80705864, blocksize: 0, agblocks: 8, agcount: 12, inodesize: 24 };

/** How many bits an inode number of this XFS filesystem may have: group, block in it, inode in that. 32 where it does not tell. */
export function xfsNumberBits(fd: number): number {
  const answer = scratch + 1024;
  u8.fill(0, answer, answer + 112);
  if (ioctlAt(fd, XFS_GEOMETRY.request, answer) < 0) return 32;
  const field = (at: number): number => Math.max(1, u32[(answer + at) >>> 2] as number);
  const bits = (n: number): number => Math.ceil(Math.log2(n));
  const inodes = field(XFS_GEOMETRY.blocksize) / field(XFS_GEOMETRY.inodesize);
  return bits(field(XFS_GEOMETRY.agcount)) + bits(field(XFS_GEOMETRY.agblocks)) + bits(inodes);
}
