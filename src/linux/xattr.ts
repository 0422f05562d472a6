// Extended attributes of a name below a directory descriptor; symlinks are never followed.
// Called by layer/ and overlay/. Uses the *xattrat() calls of Linux 6.13, else l*xattr() on /proc/self/fd/N/name;
// for a descriptor itself always /proc/self/fd/N, since those calls refuse O_PATH descriptors (EBADF on 6.18).
// Follows: setxattrat(2), lgetxattr(2); struct xattr_args of include/uapi/linux/xattr.h.

import { AT } from './constants.js';
import { E } from './errno.js';
import { procPathAt } from './files.js';
import { func, ret, syscall } from './libc.js';
import { base, scratch, u8, u32 } from './memory.js';

const P = 'uint64_t';
const c = {
  lgetxattr: func(`int64_t lgetxattr(${P} path, ${P} name, ${P} value, size_t size)`),
  lsetxattr: func(`int lsetxattr(${P} path, ${P} name, ${P} value, size_t size, int flags)`),
  llistxattr: func(`int64_t llistxattr(${P} path, ${P} list, size_t size)`),
  lremovexattr: func(`int lremovexattr(${P} path, ${P} name)`),
  getxattr: func(`int64_t getxattr(${P} path, ${P} name, ${P} value, size_t size)`),
  setxattr: func(`int setxattr(${P} path, ${P} name, ${P} value, size_t size, int flags)`),
  listxattr: func(`int64_t listxattr(${P} path, ${P} list, size_t size)`),
  removexattr: func(`int removexattr(${P} path, ${P} name)`),
};

// The same numbers on every architecture (added after the tables were unified).
const SYS = { setxattrat: 463, getxattrat: 464, listxattrat: 465, removexattrat: 466 } as const;
const FLAGS = AT.SYMLINK_NOFOLLOW | AT.EMPTY_PATH;

// struct xattr_args { u64 value; u32 size; u32 flags; }, in scratch.
const ARGS_AT = 128;

// undefined until the first call has shown whether the kernel knows *xattrat().
let modern: boolean | undefined;

/** For tests: true or false as if the kernel had the calls or not; undefined asks it again. */
export function assumeXattrat(known: boolean | undefined): void {
  modern = known;
}

function putArgs(value: number, size: number, flags: number): void {
  const k = (scratch + ARGS_AT) >>> 2;
  const pointer = base + value;
  u32[k] = pointer >>> 0;
  u32[k + 1] = Math.floor(pointer / 0x1_0000_0000);
  u32[k + 2] = size;
  u32[k + 3] = flags;
}

function isModern(): boolean {
  if (modern === undefined) {
    putArgs(scratch, 0, 0);
    const r = ret(syscall(SYS.listxattrat, AT.FDCWD, base + scratch, FLAGS, 0, 0, 0));
    modern = r !== -E.NOSYS && r !== -E.PERM;
  }
  return modern;
}

/**
 * @param name arena offset of the file's name below `dirfd`; an empty name means `dirfd` itself.
 * @param attr arena offset of the attribute's name.
 * @returns length of the value (bytes), -ENODATA when absent, -ERANGE when `size` is too small; size 0 asks for the length.
 */
export function getxattrAt(
  dirfd: number,
  name: number,
  attr: number,
  at: number,
  size: number,
): number {
  if (u8[name] !== 0 && isModern()) {
    putArgs(at, size, 0);
    return ret(
      syscall(SYS.getxattrat, dirfd, base + name, FLAGS, base + attr, base + scratch + ARGS_AT, 16),
    );
  }
  const path = base + procPathAt(dirfd, name);
  return ret((isEmpty(name) ? c.getxattr : c.lgetxattr)(path, base + attr, base + at, size));
}

export function setxattrAt(
  dirfd: number,
  name: number,
  attr: number,
  at: number,
  size: number,
  flags: number,
): number {
  if (u8[name] !== 0 && isModern()) {
    putArgs(at, size, flags);
    return ret(
      syscall(SYS.setxattrat, dirfd, base + name, FLAGS, base + attr, base + scratch + ARGS_AT, 16),
    );
  }
  const path = base + procPathAt(dirfd, name);
  return ret((isEmpty(name) ? c.setxattr : c.lsetxattr)(path, base + attr, base + at, size, flags));
}

/** Names, each NUL-terminated, one after the other. @returns bytes, or -errno; size 0 asks for the length. */
export function listxattrAt(dirfd: number, name: number, at: number, size: number): number {
  if (u8[name] !== 0 && isModern()) {
    return ret(syscall(SYS.listxattrat, dirfd, base + name, FLAGS, base + at, size, 0));
  }
  const path = base + procPathAt(dirfd, name);
  return ret((isEmpty(name) ? c.listxattr : c.llistxattr)(path, base + at, size));
}

export function removexattrAt(dirfd: number, name: number, attr: number): number {
  if (u8[name] !== 0 && isModern()) {
    return ret(syscall(SYS.removexattrat, dirfd, base + name, FLAGS, base + attr, 0, 0));
  }
  const path = base + procPathAt(dirfd, name);
  return ret((isEmpty(name) ? c.removexattr : c.lremovexattr)(path, base + attr));
}

function isEmpty(name: number): boolean {
  return u8[name] === 0;
}
