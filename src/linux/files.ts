// The *at() family and file descriptors: stat, open, read, write, rename, and so on.
// Called by layer/ and overlay/ for every request; arguments are integers and arena offsets, results are >= 0 or -errno.
// Follows: statx(2), openat(2), renameat2(2), copy_file_range(2), fallocate(2), getdents64(2).

import { AT, O } from './constants.js';
import { majorOf, minorOf } from './device.js';
import { E } from './errno.js';
import { func, ret, syscall } from './libc.js';
import { base, putU64, scratch, u8, u16, u32 } from './memory.js';

const RWF_NOWAIT = 8;

const P = 'uint64_t';
const c = {
  statx: func(`int statx(int dirfd, ${P} path, int flags, uint32_t mask, ${P} buf)`),
  openat: func(`int openat(int dirfd, ${P} path, int flags, int mode)`),
  close: func('int close(int fd)'),
  read: func(`int64_t read(int fd, ${P} buf, size_t n)`),
  write: func(`int64_t write(int fd, ${P} buf, size_t n)`),
  pread: func(`int64_t pread(int fd, ${P} buf, size_t n, int64_t off)`),
  preadv2: func(`int64_t preadv2(int fd, ${P} iov, int count, int64_t off, int flags)`),
  pwrite: func(`int64_t pwrite(int fd, ${P} buf, size_t n, int64_t off)`),
  mkdirat: func(`int mkdirat(int dirfd, ${P} path, int mode)`),
  mknodat: func(`int mknodat(int dirfd, ${P} path, int mode, uint64_t dev)`),
  symlinkat: func(`int symlinkat(${P} target, int dirfd, ${P} path)`),
  linkat: func(`int linkat(int olddir, ${P} old, int newdir, ${P} path, int flags)`),
  unlinkat: func(`int unlinkat(int dirfd, ${P} path, int flags)`),
  renameat2: func(`int renameat2(int olddir, ${P} old, int newdir, ${P} path, uint32_t flags)`),
  readlinkat: func(`int64_t readlinkat(int dirfd, ${P} path, ${P} buf, size_t n)`),
  fchownat: func(`int fchownat(int dirfd, ${P} path, uint32_t uid, uint32_t gid, int flags)`),
  fchmodat: func(`int fchmodat(int dirfd, ${P} path, int mode, int flags)`),
  fchmod: func('int fchmod(int fd, int mode)'),
  utimensat: func(`int utimensat(int dirfd, ${P} path, ${P} times, int flags)`),
  ftruncate: func('int ftruncate(int fd, int64_t n)'),
  truncate: func(`int truncate(${P} path, int64_t n)`),
  fallocate: func('int fallocate(int fd, int mode, int64_t off, int64_t len)'),
  lseek: func('int64_t lseek(int fd, int64_t off, int whence)'),
  fsync: func('int fsync(int fd)'),
  fdatasync: func('int fdatasync(int fd)'),
  sync_file_range: func(
    'int sync_file_range(int fd, int64_t offset, int64_t nbytes, unsigned int flags)',
  ),
  syncfs: func('int syncfs(int fd)'),
  sync: func('void sync(void)'),
  fstatfs: func(`int fstatfs(int fd, ${P} buf)`),
  getdents64: func(`int64_t getdents64(int fd, ${P} buf, size_t n)`),
  copyFileRange: func(
    `int64_t copy_file_range(int fdin, ${P} offin, int fdout, ${P} offout, size_t n, uint32_t flags)`,
  ),
  ioctlInt: func('int ioctl(int fd, uint64_t request, uint64_t arg)'),
  dup3: func('int dup3(int oldfd, int newfd, int flags)'),
  fcntl: func('int fcntl(int fd, int cmd, int64_t arg)'),
};

// Scratch of this thread, see memory.ts. 0: an empty string; 8: "."; 16: two timespecs; 64: u64 pair; 80: an iovec; 256: statx buffer.
const EMPTY_AT = 0;
const DOT_AT = 8;
const TIMES_AT = 16;
const RANGE_AT = 64;
const IOVEC_AT = 80;
const STATX_AT = 256;

/** Arena offset of an empty string (for AT_EMPTY_PATH), of this thread. */
export function emptyPath(): number {
  return scratch + EMPTY_AT;
}

/** Arena offset of the string ".". */
export function dotPath(): number {
  u8[scratch + DOT_AT] = 0x2e;
  u8[scratch + DOT_AT + 1] = 0;
  return scratch + DOT_AT;
}

/** struct statx: the fields read here, as byte offsets. include/uapi/linux/stat.h */
export const Statx = {
  blksize: 4,
  nlink: 16,
  uid: 20,
  gid: 24,
  mode: 28,
  ino: 32,
  size: 40,
  blocks: 48,
  atime: 64,
  btime: 80,
  ctime: 96,
  mtime: 112,
  rdev_major: 128,
  rdev_minor: 132,
  dev_major: 136,
  dev_minor: 140,
  mnt_id: 144,
} as const;

const STATX_BASIC_STATS = 0x7ff;
const STATX_BTIME = 0x800;
let statWanted = STATX_BASIC_STATS;

/** Whether this thread's statAt() and statFd() ask for btime too; where it is not kept it reads as zeros. */
export function statBirth(on: boolean): void {
  statWanted = on ? STATX_BASIC_STATS | STATX_BTIME : STATX_BASIC_STATS;
}
const STAT_FLAGS = AT.SYMLINK_NOFOLLOW | AT.EMPTY_PATH | AT.NO_AUTOMOUNT;

/** Arena offset of the struct statx that the last statAt() or statFd() of this thread filled. */
export function statBuffer(): number {
  return scratch + STATX_AT;
}

/**
 * statx of `name` below `dirfd`, symlinks not followed; the result lies in statBuffer().
 * @returns st_mode (> 0) or -errno.
 */
export function statAt(dirfd: number, name: number): number {
  const at = scratch + STATX_AT;
  const r = c.statx(dirfd, base + name, STAT_FLAGS, statWanted, base + at);
  return r < 0 ? ret(r) : (u16[(at + Statx.mode) >>> 1] as number);
}

/** statx of an open descriptor; as statAt(). */
export function statFd(fd: number): number {
  return statAt(fd, scratch + EMPTY_AT);
}

export function openAt(dirfd: number, name: number, flags: number, mode = 0): number {
  return ret(c.openat(dirfd, base + name, flags | O.CLOEXEC, mode));
}

/** Opens what the O_PATH or other descriptor `fd` refers to again, with other flags (through /proc/self/fd). */
export function reopenFd(fd: number, flags: number): number {
  return ret(c.openat(AT.FDCWD, base + procPath(fd), (flags & ~O.NOFOLLOW) | O.CLOEXEC, 0));
}

// "/proc/self/fd/" + fd [+ "/" + name], rebuilt for every call; lives behind the statx buffer.
const PROC_AT = 512;
const PROC_PREFIX = '/proc/self/fd/';
let procReady = false;

/** Writes `/proc/self/fd/FD` to scratch; returns its offset. Valid until the next call of this thread. */
export function procPath(fd: number): number {
  const end = procPrefix(fd);
  u8[end] = 0;
  return scratch + PROC_AT;
}

/** Writes `/proc/self/fd/FD/NAME`; returns its offset. An empty name gives `/proc/self/fd/FD`. */
export function procPathAt(fd: number, name: number): number {
  let end = procPrefix(fd);
  if (u8[name] !== 0) {
    u8[end++] = 0x2f;
    for (let i = name; u8[i] !== 0; i++) u8[end++] = u8[i] as number;
  }
  u8[end] = 0;
  return scratch + PROC_AT;
}

function procPrefix(fd: number): number {
  let end = scratch + PROC_AT;
  if (!procReady) {
    for (let i = 0; i < PROC_PREFIX.length; i++) u8[end + i] = PROC_PREFIX.charCodeAt(i);
    procReady = true;
  }
  end += PROC_PREFIX.length;
  let width = 1;
  for (let n = fd; n >= 10; n = (n / 10) | 0) width++;
  let n = fd;
  for (let i = width - 1; i >= 0; i--) {
    u8[end + i] = 0x30 + (n % 10);
    n = (n / 10) | 0;
  }
  return end + width;
}

/** struct open_how of openat2(2), in scratch. */
const OPEN_HOW_AT = 96;
const SYS_openat2 = 437;
const RESOLVE = { NO_XDEV: 1, NO_MAGICLINKS: 2, NO_SYMLINKS: 4, BENEATH: 8, IN_ROOT: 16 } as const;

const BENEATH = RESOLVE.BENEATH | RESOLVE.NO_SYMLINKS | RESOLVE.NO_MAGICLINKS;

/** openat2 that never leaves `dirfd`, follows no symlink and no magic link. */
export function openBeneath(dirfd: number, path: number, flags: number): number {
  return openat2(dirfd, path, flags, BENEATH);
}

/** As openBeneath(), and never onto another mount: what kernel overlayfs sees of a layer. */
export function openBeneathOnMount(dirfd: number, path: number, flags: number): number {
  return openat2(dirfd, path, flags, BENEATH | RESOLVE.NO_XDEV);
}

/** open(2) of a path as it is for who has `dirfd` as root directory: its symlinks, absolute ones too, stay inside. */
export function openInRoot(dirfd: number, path: number, flags: number): number {
  return openat2(dirfd, path, flags, RESOLVE.IN_ROOT | RESOLVE.NO_MAGICLINKS);
}

function openat2(dirfd: number, path: number, flags: number, resolve: number): number {
  const k = (scratch + OPEN_HOW_AT) >>> 2;
  u32[k] = (flags | O.CLOEXEC) >>> 0;
  u32[k + 1] = 0;
  u32[k + 2] = 0;
  u32[k + 3] = 0;
  u32[k + 4] = resolve;
  u32[k + 5] = 0;
  return ret(syscall(SYS_openat2, dirfd, base + path, base + scratch + OPEN_HOW_AT, 24, 0, 0));
}

export function close(fd: number): number {
  return ret(c.close(fd));
}

export function read(fd: number, at: number, n: number): number {
  return ret(c.read(fd, base + at, n));
}

export function write(fd: number, at: number, n: number): number {
  return ret(c.write(fd, base + at, n));
}

export function pread(fd: number, at: number, n: number, offset: number): number {
  return ret(c.pread(fd, base + at, n, offset));
}

/** pread(2) of what lies in memory. @returns a prefix of it, -EAGAIN: none of it does, -EOPNOTSUPP: nobody can tell. */
export function preadCached(fd: number, at: number, n: number, offset: number): number {
  const iovec = scratch + IOVEC_AT;
  putU64(iovec, base + at);
  putU64(iovec + 8, n);
  return ret(c.preadv2(fd, base + iovec, 1, offset, RWF_NOWAIT));
}

export function pwrite(fd: number, at: number, n: number, offset: number): number {
  return ret(c.pwrite(fd, base + at, n, offset));
}

export function mkdirAt(dirfd: number, name: number, mode: number): number {
  return ret(c.mkdirat(dirfd, base + name, mode));
}

/** @param dev as device.ts has it. */
export function mknodAt(dirfd: number, name: number, mode: number, dev: number): number {
  const minor = minorOf(dev);
  // glibc's dev_t: minor low 8 | major low 12 << 8 | minor rest << 12; equal to the kernel's for these ranges.
  const value = (minor & 0xff) + majorOf(dev) * 256 + (minor >>> 8) * 0x100000;
  return ret(c.mknodat(dirfd, base + name, mode, value));
}

export function symlinkAt(target: number, dirfd: number, name: number): number {
  return ret(c.symlinkat(base + target, dirfd, base + name));
}

export function linkAt(
  oldDir: number,
  oldName: number,
  newDir: number,
  newName: number,
  flags = 0,
): number {
  return ret(c.linkat(oldDir, base + oldName, newDir, base + newName, flags));
}

/** Gives the (possibly O_PATH or O_TMPFILE) file behind `fd` a name. */
export function linkFd(fd: number, newDir: number, newName: number): number {
  return ret(c.linkat(AT.FDCWD, base + procPath(fd), newDir, base + newName, AT.SYMLINK_FOLLOW));
}

export function unlinkAt(dirfd: number, name: number, flags = 0): number {
  return ret(c.unlinkat(dirfd, base + name, flags));
}

export function renameAt(
  oldDir: number,
  oldName: number,
  newDir: number,
  newName: number,
  flags = 0,
): number {
  return ret(c.renameat2(oldDir, base + oldName, newDir, base + newName, flags));
}

/** @returns bytes written to `at` (no NUL), or -errno. */
export function readlinkAt(dirfd: number, name: number, at: number, size: number): number {
  return ret(c.readlinkat(dirfd, base + name, base + at, size));
}

/** uid or gid of 0xffffffff leaves it as it is. Symlinks are not followed. */
export function chownAt(dirfd: number, name: number, uid: number, gid: number): number {
  return ret(c.fchownat(dirfd, base + name, uid, gid, AT.SYMLINK_NOFOLLOW | AT.EMPTY_PATH));
}

/** chmod of a name that is known not to be a symlink. */
export function chmodAt(dirfd: number, name: number, mode: number): number {
  return ret(c.fchmodat(dirfd, base + name, mode, 0));
}

/** chmod of what `fd` (O_PATH allowed) refers to. */
export function chmodFd(fd: number, mode: number): number {
  return ret(c.fchmodat(AT.FDCWD, base + procPath(fd), mode, 0));
}

/** tv_nsec values of utimensat(2). */
export const UTIME_NOW = 0x3fffffff;
export const UTIME_OMIT = 0x3ffffffe;

/**
 * utimensat without following symlinks. Seconds as two u32 halves (they may be negative), nanoseconds or UTIME_*.
 */
export function utimensAt(
  dirfd: number,
  name: number,
  atimeLo: number,
  atimeHi: number,
  atimeNsec: number,
  mtimeLo: number,
  mtimeHi: number,
  mtimeNsec: number,
): number {
  const k = (scratch + TIMES_AT) >>> 2;
  u32[k] = atimeLo;
  u32[k + 1] = atimeHi;
  u32[k + 2] = atimeNsec;
  u32[k + 3] = 0;
  u32[k + 4] = mtimeLo;
  u32[k + 5] = mtimeHi;
  u32[k + 6] = mtimeNsec;
  u32[k + 7] = 0;
  const flags = u8[name] === 0 ? AT.EMPTY_PATH : AT.SYMLINK_NOFOLLOW;
  return ret(c.utimensat(dirfd, base + name, base + scratch + TIMES_AT, flags));
}

/** Sets atime and mtime of `name` to those in the struct statx at `stat`. */
export function utimensFromStat(dirfd: number, name: number, stat: number): number {
  const a = (stat + Statx.atime) >>> 2;
  const m = (stat + Statx.mtime) >>> 2;
  return utimensAt(
    dirfd,
    name,
    u32[a] as number,
    u32[a + 1] as number,
    u32[a + 2] as number,
    u32[m] as number,
    u32[m + 1] as number,
    u32[m + 2] as number,
  );
}

/** truncate(2) of what `fd` refers to: other than by ftruncate(2), times stay when the size does. */
export function truncateOpen(fd: number, size: number): number {
  return ret(c.truncate(base + procPath(fd), size));
}

export function ftruncate(fd: number, size: number): number {
  return ret(c.ftruncate(fd, size));
}

export function fallocate(fd: number, mode: number, offset: number, length: number): number {
  return ret(c.fallocate(fd, mode, offset, length));
}

export function lseek(fd: number, offset: number | bigint, whence: number): number {
  return ret(c.lseek(fd, offset, whence));
}

export function fsync(fd: number): number {
  return ret(c.fsync(fd));
}

export function fdatasync(fd: number): number {
  return ret(c.fdatasync(fd));
}

/** WAIT_BEFORE, WRITE, WAIT_AFTER. */
const SYNC_FILE_RANGE_WRITE_AND_WAIT = 7;

/**
 * Writes out the dirty pages of a file, nothing else. A process that has such a page mapped writes to it without a trace; once
 * it was written out, the next store changes ctime again (folio_clear_dirty_for_io() write-protects it). No effect on tmpfs.
 */
export function writeOutPages(fd: number): number {
  return ret(c.sync_file_range(fd, 0, 0, SYNC_FILE_RANGE_WRITE_AND_WAIT));
}

export function syncfs(fd: number): number {
  return ret(c.syncfs(fd));
}

/** sync(2): every filesystem. */
export function syncAll(): void {
  c.sync();
}

/** struct statfs (64-bit): f_type 0, f_bsize 8, f_blocks 16, f_bfree 24, f_bavail 32, f_files 40, f_ffree 48, f_namelen 64, f_frsize 72, f_flags 80. */
export function fstatfs(fd: number, at: number): number {
  return ret(c.fstatfs(fd, base + at));
}

export function getdents(fd: number, at: number, size: number): number {
  return ret(c.getdents64(fd, base + at, size));
}

/** copy_file_range with explicit offsets (bytes). */
export function copyFileRange(
  from: number,
  fromOffset: number,
  to: number,
  toOffset: number,
  length: number,
): number {
  const k = (scratch + RANGE_AT) >>> 2;
  u32[k] = fromOffset >>> 0;
  u32[k + 1] = Math.floor(fromOffset / 0x1_0000_0000);
  u32[k + 2] = toOffset >>> 0;
  u32[k + 3] = Math.floor(toOffset / 0x1_0000_0000);
  const at = base + scratch + RANGE_AT;
  return ret(c.copyFileRange(from, at, to, at + 8, length, 0));
}

const FICLONE = 0x40049409;

/** Makes `to` share all of `from`'s blocks (reflink). */
export function cloneFile(to: number, from: number): number {
  return ret(c.ioctlInt(to, FICLONE, from));
}

/** ioctl whose argument is an arena offset. */
export function ioctlAt(fd: number, request: number, at: number): number {
  return ret(c.ioctlInt(fd, request, base + at));
}

export function dup3(oldFd: number, newFd: number): number {
  return ret(c.dup3(oldFd, newFd, O.CLOEXEC));
}

const F_GETFL = 3;
const F_SETFL = 4;
const F_DUPFD_CLOEXEC = 1030;

/** Another descriptor of the same open file description. */
export function duplicate(fd: number): number {
  return ret(c.fcntl(fd, F_DUPFD_CLOEXEC, 0));
}

/**
 * Makes descriptor `number` one of the file of `fd`, unless it is open already: then nothing happens.
 * @returns whether it is one now.
 */
export function takeNumber(number: number, fd: number): boolean {
  const taken = ret(c.fcntl(fd, F_DUPFD_CLOEXEC, number));
  if (taken === number) return true;
  if (taken >= 0) close(taken);
  return false;
}

// fcntl(2): F_SETSIG, F_SETLEASE, F_RDLCK, F_WRLCK, F_UNLCK; signal(7) of whoever opens a file while there is a lease on it.
const F_SETSIG = 10;
const F_SETLEASE = 1024;
const F_RDLCK = 0;
const F_WRLCK = 1;
const F_UNLCK = 2;
const SIGURG = 23;

/**
 * Whether somebody has the file open for writing, or mapped so: then the kernel gives no read lease. True where it gives
 * none anyway. @param fd opened for reading.
 */
export function hasWriter(fd: number): boolean {
  if (ret(c.fcntl(fd, F_SETLEASE, F_RDLCK)) < 0) return true;
  c.fcntl(fd, F_SETLEASE, F_UNLCK);
  return false;
}

/**
 * Whether anybody has the file open but through `fd` and its duplicates, in any namespace; a mounted filesystem that reads
 * from it too. @param fd opened for reading, or for both. @param unknown what it is where the kernel gives no leases.
 */
export function isOpenElsewhere(fd: number, unknown = true): boolean {
  // The signal to a holder of a lease would end this process; this one is ignored.
  c.fcntl(fd, F_SETSIG, SIGURG);
  const r = ret(c.fcntl(fd, F_SETLEASE, F_WRLCK));
  if (r < 0) return r === -E.AGAIN || unknown;
  c.fcntl(fd, F_SETLEASE, F_UNLCK);
  return false;
}

/** Switches O_NONBLOCK of an open file description. */
export function setNonblocking(fd: number, on: boolean): number {
  const flags = ret(c.fcntl(fd, F_GETFL, 0));
  if (flags < 0) return flags;
  return ret(c.fcntl(fd, F_SETFL, on ? flags | O.NONBLOCK : flags & ~O.NONBLOCK));
}
