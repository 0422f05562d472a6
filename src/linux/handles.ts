// File handles and filesystem UUIDs: what names an inode independently of its path.
// Used by layer/ for origin marks and the index directory.
// Follows: name_to_handle_at(2), open_by_handle_at(2); FS_IOC_GETFSUUID of include/uapi/linux/fs.h (6.9).

import { AT } from './constants.js';
import { ioctlAt } from './files.js';
import { func, ret } from './libc.js';
import { base, scratch, u8, u32 } from './memory.js';

const nameToHandleAt = func(
  'int name_to_handle_at(int dirfd, uint64_t path, uint64_t handle, uint64_t mountid, int flags)',
);
const openByHandleAt = func('int open_by_handle_at(int mountfd, uint64_t handle, int flags)');

/** Largest handle, bytes (MAX_HANDLE_SZ). */
export const MAX_HANDLE = 128;

/** struct file_handle at `out`: u32 handle_bytes, i32 handle_type, bytes. 8 + MAX_HANDLE bytes of room. */
export function nameToHandle(dirfd: number, name: number, out: number): number {
  const k = out >>> 2;
  u32[k] = MAX_HANDLE;
  const r = ret(nameToHandleAt(dirfd, base + name, base + out, base + scratch + 88, AT.EMPTY_PATH));
  return r < 0 ? r : (u32[k] as number);
}

/** Opens by handle; needs CAP_DAC_READ_SEARCH. `mountFd`: any fd on the filesystem. */
export function openHandle(mountFd: number, handle: number, flags: number): number {
  return ret(openByHandleAt(mountFd, base + handle, flags));
}

const FS_IOC_GETFSUUID = 0x80111500;
const EXT4_IOC_GETFSUUID = 0x8008662c;
const XFS_IOC_FSGEOMETRY_V1 = 0x80705864;

/**
 * The filesystem's UUID (16 bytes), or zeros when the kernel does not tell.
 * @param fd a real (not O_PATH) descriptor on it.
 */
export function filesystemUuid(fd: number): Uint8Array {
  const uuid = new Uint8Array(16);
  const at = scratch + 1024;
  u8.fill(0, at, at + 128);
  if (ioctlAt(fd, FS_IOC_GETFSUUID, at) >= 0 && u8[at] === 16) {
    uuid.set(u8.subarray(at + 1, at + 17));
    return uuid;
  }
  // struct fsuuid { u32 fsu_len; u32 fsu_flags; u8 fsu_uuid[]; }
  u8.fill(0, at, at + 128);
  u32[at >>> 2] = 16;
  if (ioctlAt(fd, EXT4_IOC_GETFSUUID, at) >= 0) {
    uuid.set(u8.subarray(at + 8, at + 24));
    return uuid;
  }
  // struct xfs_fsop_geom_v1: 12 u32 and u64 fields, uuid at byte 72.
  u8.fill(0, at, at + 128);
  if (ioctlAt(fd, XFS_IOC_FSGEOMETRY_V1, at) >= 0) uuid.set(u8.subarray(at + 72, at + 88));
  return uuid;
}
