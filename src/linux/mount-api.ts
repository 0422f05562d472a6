// The mount API by file descriptor: a private view of a tree that no other mount reaches into, and that pins no other mount.
// Used by stack/open.ts for the layers of a privileged server, by overlay/practice.ts, and by sandbox/.
// Follows: open_tree(2), mount_setattr(2) (Linux 5.12), fsopen(2), fsmount(2); kernel overlayfs clones its layers' mounts the same way.

import { AT, O } from './constants.js';
import { close } from './files.js';
import { ret, syscall } from './libc.js';
import { base, putBytes, scratch, u8, u32 } from './memory.js';

// The same numbers on every architecture.
const SYS = {
  open_tree: 428,
  move_mount: 429,
  fsopen: 430,
  fsconfig: 431,
  fsmount: 432,
  mount_setattr: 442,
} as const;
const OPEN_TREE_CLONE = 1;
const AT_RECURSIVE = 0x8000;
const MOVE_MOUNT_F_EMPTY_PATH = 4;
const MOVE_MOUNT_BENEATH = 0x200;
const FSOPEN_CLOEXEC = 1;
const FSMOUNT_CLOEXEC = 1;
const FSCONFIG_SET_STRING = 1;
const FSCONFIG_CMD_CREATE = 6;
const MOUNT_ATTR_NOSUID = 2;
const MOUNT_ATTR_NODEV = 4;
const MOUNT_ATTR_NOEXEC = 8;
const MOUNT_ATTR_RDONLY = 1;
const MOUNT_ATTR_NOATIME = 0x10;
const MOUNT_ATTR__ATIME = 0x70;

/** struct mount_attr in scratch: attr_set, attr_clr, propagation, userns_fd (u64 each). */
const ATTR_AT = 0x2d000;

/**
 * Clones the mount at `path` (an arena offset) without what is mounted below it.
 * @param readOnly read-only and without atime updates.
 * @returns an O_PATH descriptor that keeps it alive, or -errno (EPERM without privilege, EINVAL where mounts are locked).
 */
export function cloneMount(path: number, readOnly: boolean): number {
  const fd = ret(
    syscall(SYS.open_tree, AT.FDCWD, base + path, OPEN_TREE_CLONE | O.CLOEXEC, 0, 0, 0),
  );
  if (fd < 0 || !readOnly) return fd;
  const k = (scratch + ATTR_AT) >>> 2;
  u32.fill(0, k, k + 8);
  u32[k] = MOUNT_ATTR_RDONLY | MOUNT_ATTR_NOATIME;
  u32[k + 2] = MOUNT_ATTR__ATIME;
  u32[scratch >>> 2] = 0;
  const r = ret(
    syscall(SYS.mount_setattr, fd, base + scratch, AT.EMPTY_PATH, base + scratch + ATTR_AT, 32, 0),
  );
  if (r < 0) {
    close(fd);
    return r;
  }
  return fd;
}

/**
 * Puts a mount under the one on top at `path` (an arena offset): it is seen once that one is gone. Linux 6.5.
 * @param fd of cloneMount(). @returns 0 or -errno.
 */
export function moveBeneath(fd: number, path: number): number {
  u8[scratch] = 0;
  const flags = MOVE_MOUNT_F_EMPTY_PATH | MOVE_MOUNT_BENEATH;
  return ret(syscall(SYS.move_mount, fd, base + scratch, AT.FDCWD, base + path, flags, 0));
}

/**
 * Mounts a tmpfs of at most 4 MiB that has no place in any tree.
 * @returns an O_PATH descriptor of its root, whose closing ends it; or -errno (EPERM without privilege over mounts).
 */
export function privateTmpfs(): number {
  const word = (offset: number, text: string): number => {
    putBytes(scratch + ATTR_AT + offset, text);
    return base + scratch + ATTR_AT + offset;
  };
  const context = ret(syscall(SYS.fsopen, word(0, 'tmpfs'), FSOPEN_CLOEXEC, 0, 0, 0, 0));
  if (context < 0) return context;
  const size = [word(0, 'size'), word(16, '4m')] as const;
  let r = ret(syscall(SYS.fsconfig, context, FSCONFIG_SET_STRING, size[0], size[1], 0, 0));
  if (r >= 0) r = ret(syscall(SYS.fsconfig, context, FSCONFIG_CMD_CREATE, 0, 0, 0, 0));
  if (r >= 0) {
    const attributes = MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV | MOUNT_ATTR_NOEXEC;
    r = ret(syscall(SYS.fsmount, context, FSMOUNT_CLOEXEC, attributes, 0, 0, 0));
  }
  close(context);
  return r;
}

/** What mount_setattr(2) may add to a mount here. */
export interface MountLocks {
  readonly readOnly?: boolean;
  readonly noexec?: boolean;
}

/**
 * Makes the mount of an open directory or file, and every mount below it, nosuid, nodev and what `locks` says.
 * @param fd the root of the mount, O_PATH. @param devices keep device files usable. @returns 0 or -errno.
 */
export function lockMounts(fd: number, locks: MountLocks, devices = false): number {
  const k = (scratch + ATTR_AT) >>> 2;
  u32.fill(0, k, k + 8);
  u32[k] =
    MOUNT_ATTR_NOSUID |
    (devices ? 0 : MOUNT_ATTR_NODEV) |
    (locks.readOnly ? MOUNT_ATTR_RDONLY : 0) |
    (locks.noexec ? MOUNT_ATTR_NOEXEC : 0);
  u32[scratch >>> 2] = 0;
  const flags = AT.EMPTY_PATH | AT_RECURSIVE;
  return ret(
    syscall(SYS.mount_setattr, fd, base + scratch, flags, base + scratch + ATTR_AT, 32, 0),
  );
}
