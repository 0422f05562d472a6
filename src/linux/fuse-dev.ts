// The FUSE device: opening it and its ioctls. Requests and replies themselves are read(2) and write(2).
// Called by linux/mount.ts (open) and fuse/host.ts (backing files).
// Follows: FUSE_DEV_IOC_* of include/uapi/linux/fuse.h, ABI 7.45; the numbers are the same on x86-64, arm64 and riscv64.

import { O } from './constants.js';
import { close } from './files.js';
import { func, ret, stringFunc } from './libc.js';
import { base, scratch, u32 } from './memory.js';

const open = stringFunc('int open(const char *path, int flags, int mode)');
const ioctl = func('int ioctl(int fd, uint64_t request, uint64_t arg)');

const FUSE_DEV_IOC_CLONE = 0x8004e500;
const FUSE_DEV_IOC_BACKING_OPEN = 0x4010e501;
const FUSE_DEV_IOC_BACKING_CLOSE = 0x4004e502;

// Scratch of this thread: struct fuse_backing_map { i32 fd; u32 flags; u64 padding; } or one word.
const AT = 0x2a000;

/** Opens /dev/fuse for a new session, close-on-exec. @returns an fd or -errno. */
export function openFuse(): number {
  return ret(open('/dev/fuse', O.RDWR | O.CLOEXEC, 0));
}

/**
 * Another descriptor of the session of `fd`, close-on-exec. What is read from it is ended with ECONNABORTED when its last
 * duplicate closes; what is queued is not. @returns an fd or -errno.
 */
export function cloneFuse(fd: number): number {
  const clone = openFuse();
  if (clone < 0) return clone;
  u32[(scratch + AT) >>> 2] = fd;
  const r = ret(ioctl(clone, FUSE_DEV_IOC_CLONE, base + scratch + AT));
  if (r >= 0) return clone;
  close(clone);
  return r;
}

/**
 * Registers `fd` as backing file. @returns a backing id > 0, or -errno: EPERM without CAP_SYS_ADMIN in the initial
 * user namespace, ELOOP when the file's filesystem is stacked too deep, ENOTTY on kernels before 6.9.
 */
export function backingOpen(fuseFd: number, fd: number): number {
  const k = (scratch + AT) >>> 2;
  u32[k] = fd;
  u32[k + 1] = 0;
  u32[k + 2] = 0;
  u32[k + 3] = 0;
  return ret(ioctl(fuseFd, FUSE_DEV_IOC_BACKING_OPEN, base + scratch + AT));
}

/** Releases a backing id; open files keep what they have. */
export function backingClose(fuseFd: number, id: number): number {
  u32[(scratch + AT) >>> 2] = id;
  return ret(ioctl(fuseFd, FUSE_DEV_IOC_BACKING_CLOSE, base + scratch + AT));
}
