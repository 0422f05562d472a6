// System calls for tests, synchronous and with names as bytes: what node:fs lacks or hides.
// Apart from src/linux on purpose, so that a mistake there cannot hide itself. Needs libc through koffi.
// Follows: the man-pages of the calls; constants are those of x86_64 and, where they differ, of arm64.

import { constants as os } from 'node:os';
import koffi from 'koffi';
import { mountsBelow } from './mounts.js';

const libc = koffi.load('libc.so.6');
type Arg = number | bigint | Buffer | null;
type CCall = (...args: Arg[]) => number;

/** A C function whose failure comes back as -errno. */
function declare(prototype: string): CCall {
  const call = libc.func(prototype) as unknown as CCall;
  return (...args) => {
    const result = call(...args);
    return result < 0 ? -koffi.errno() : result;
  };
}

const raw = declare(
  'int64_t syscall(int64_t n, int64_t a, int64_t b, int64_t c, int64_t d, int64_t e)',
);
const arm = process.arch === 'arm64';

/** Numbers of system calls that are made without libc: its wrappers act on all threads. */
const nr = arm
  ? { setresuid: 147, setresgid: 149, setgroups: 159, unshare: 97 }
  : { setresuid: 117, setresgid: 119, setgroups: 116, unshare: 272 };

export const O = {
  RDONLY: 0,
  WRONLY: 1,
  RDWR: 2,
  CREAT: 0x40,
  EXCL: 0x80,
  TRUNC: 0x200,
  APPEND: 0x400,
  NONBLOCK: 0x800,
  DIRECTORY: arm ? 0x4000 : 0x10000,
  NOFOLLOW: arm ? 0x8000 : 0x20000,
  NOATIME: 0x40000,
  CLOEXEC: 0x80000,
  PATH: 0x200000,
  TMPFILE: arm ? 0x404000 : 0x410000,
} as const;

export const AT = {
  FDCWD: -100,
  SYMLINK_NOFOLLOW: 0x100,
  EACCESS: 0x200,
  REMOVEDIR: 0x200,
  SYMLINK_FOLLOW: 0x400,
  EMPTY_PATH: 0x1000,
} as const;

export const S = {
  IFMT: 0o170000,
  IFSOCK: 0o140000,
  IFLNK: 0o120000,
  IFREG: 0o100000,
  IFBLK: 0o060000,
  IFDIR: 0o040000,
  IFCHR: 0o020000,
  IFIFO: 0o010000,
} as const;

/** Names are byte strings, one code unit a byte (latin1); the C string for one. */
export function cstr(name: string): Buffer {
  return Buffer.from(`${name}\0`, 'latin1');
}

const errnoNames = new Map(Object.entries(os.errno).map(([name, value]) => [value, name]));

/** `0` or more as it is, -errno as its name. */
export function show(result: number): string {
  return result < 0 ? (errnoNames.get(-result) ?? `errno ${-result}`) : String(result);
}

const c = {
  openat: declare('int openat(int dir, void *path, int flags, uint32_t mode)'),
  close: declare('int close(int fd)'),
  read: declare('int64_t read(int fd, void *buf, size_t n)'),
  pread: declare('int64_t pread(int fd, void *buf, size_t n, int64_t at)'),
  write: declare('int64_t write(int fd, void *buf, size_t n)'),
  pwrite: declare('int64_t pwrite(int fd, void *buf, size_t n, int64_t at)'),
  lseek: declare('int64_t lseek(int fd, int64_t at, int whence)'),
  ftruncate: declare('int ftruncate(int fd, int64_t size)'),
  truncate: declare('int truncate(void *path, int64_t size)'),
  fallocate: declare('int fallocate(int fd, int mode, int64_t at, int64_t n)'),
  fsync: declare('int fsync(int fd)'),
  fdatasync: declare('int fdatasync(int fd)'),
  syncfs: declare('int syncfs(int fd)'),
  mkdirat: declare('int mkdirat(int dir, void *path, uint32_t mode)'),
  mknodat: declare('int mknodat(int dir, void *path, uint32_t mode, uint64_t dev)'),
  unlinkat: declare('int unlinkat(int dir, void *path, int flags)'),
  symlinkat: declare('int symlinkat(void *target, int dir, void *path)'),
  readlinkat: declare('int64_t readlinkat(int dir, void *path, void *buf, size_t n)'),
  linkat: declare('int linkat(int dir, void *from, int dir2, void *to, int flags)'),
  renameat2: declare('int renameat2(int dir, void *from, int dir2, void *to, uint32_t flags)'),
  faccessat: declare('int faccessat(int dir, void *path, int mode, int flags)'),
  fchmodat: declare('int fchmodat(int dir, void *path, uint32_t mode, int flags)'),
  fchmod: declare('int fchmod(int fd, uint32_t mode)'),
  fchownat: declare('int fchownat(int dir, void *path, uint32_t uid, uint32_t gid, int flags)'),
  utimensat: declare('int utimensat(int dir, void *path, void *times, int flags)'),
  statx: declare('int statx(int dir, void *path, int flags, uint32_t mask, void *buf)'),
  fstatfs: declare('int fstatfs(int fd, void *buf)'),
  getdents64: declare('int64_t getdents64(int fd, void *buf, size_t n)'),
  setxattr: declare('int setxattr(void *path, void *name, void *value, size_t n, int flags)'),
  lsetxattr: declare('int lsetxattr(void *path, void *name, void *value, size_t n, int flags)'),
  fsetxattr: declare('int fsetxattr(int fd, void *name, void *value, size_t n, int flags)'),
  lgetxattr: declare('int64_t lgetxattr(void *path, void *name, void *value, size_t n)'),
  fgetxattr: declare('int64_t fgetxattr(int fd, void *name, void *value, size_t n)'),
  llistxattr: declare('int64_t llistxattr(void *path, void *list, size_t n)'),
  flistxattr: declare('int64_t flistxattr(int fd, void *list, size_t n)'),
  lremovexattr: declare('int lremovexattr(void *path, void *name)'),
  fremovexattr: declare('int fremovexattr(int fd, void *name)'),
  copyFileRange: declare(
    'int64_t copy_file_range(int in, void *at_in, int out, void *at_out, size_t n, uint32_t flags)',
  ),
  sendfile: declare('int64_t sendfile(int out, int in, void *at, size_t n)'),
  flock: declare('int flock(int fd, int what)'),
  fcntl: declare('int fcntl(int fd, int cmd, void *arg)'),
  nameToHandle: declare(
    'int name_to_handle_at(int dir, void *path, void *handle, void *mount, int flags)',
  ),
  openByHandle: declare('int open_by_handle_at(int mount, void *handle, int flags)'),
  umask: declare('uint32_t umask(uint32_t mask)'),
};

// mmap returns a pointer, so its failure is not a negative int and its errno is taken by hand.
const mmapCall = libc.func(
  'void *mmap(void *at, size_t n, int prot, int flags, int fd, int64_t off)',
) as unknown as (...args: Arg[]) => bigint;
const munmap = declare('int munmap(void *at, size_t n)');
const msync = declare('int msync(void *at, size_t n, int flags)');
const MAP_FAILED = 0xffff_ffff_ffff_ffffn;

export interface Mapping {
  /** The mapped memory itself; not to be touched after `unmap`. */
  bytes: Uint8Array;
  /** msync(2) with MS_SYNC. */
  sync(): number;
  unmap(): void;
}

/** A MAP_SHARED mapping from the start of a file; touching it beyond the file's end is SIGBUS. */
export function mapShared(fd: number, length: number, writable: boolean): Mapping | number {
  const address = mmapCall(null, length, writable ? 3 : 1, 1, fd, 0);
  if (address === MAP_FAILED) return -koffi.errno();
  return {
    bytes: new Uint8Array(koffi.view(address, length)),
    sync: () => msync(address, length, 4),
    unmap: () => void munmap(address, length),
  };
}

export interface Stat {
  mode: number;
  nlink: number;
  uid: number;
  gid: number;
  ino: bigint;
  dev: string;
  rdev: string;
  size: number;
  blocks: number;
  /** Nanoseconds. */
  atime: bigint;
  mtime: bigint;
  ctime: bigint;
}

const statBuffer = Buffer.alloc(256);

/** By name below a folder's descriptor, or of the descriptor itself when the name is empty. */
export function stat(dir: number, name: string, flags = 0): Stat | number {
  const empty = name === '' ? AT.EMPTY_PATH : 0;
  const result = c.statx(dir, cstr(name), flags | empty, 0x7ff, statBuffer);
  if (result < 0) return result;
  const b = statBuffer;
  const time = (at: number) =>
    b.readBigInt64LE(at) * 1_000_000_000n + BigInt(b.readUInt32LE(at + 8));
  const device = (at: number) => `${b.readUInt32LE(at)}:${b.readUInt32LE(at + 4)}`;
  return {
    nlink: b.readUInt32LE(16),
    uid: b.readUInt32LE(20),
    gid: b.readUInt32LE(24),
    mode: b.readUInt16LE(28),
    ino: b.readBigUInt64LE(32),
    size: Number(b.readBigUInt64LE(40)),
    blocks: Number(b.readBigUInt64LE(48)),
    atime: time(64),
    ctime: time(96),
    mtime: time(112),
    rdev: device(128),
    dev: device(136),
  };
}

export interface Entry {
  name: string;
  /** DT_* of readdir(3). */
  type: number;
  ino: bigint;
  /** Where the next read of this folder goes on. */
  offset: bigint;
}

const direntBuffer = Buffer.alloc(65_536);

/** The next entries of an open folder, at most what one call gives; `bytes` bounds that. */
export function getdents(fd: number, bytes = direntBuffer.length): Entry[] | number {
  const length = c.getdents64(fd, direntBuffer, bytes);
  if (length < 0) return length;
  const entries: Entry[] = [];
  for (let at = 0; at < length; at += direntBuffer.readUInt16LE(at + 16)) {
    const end = direntBuffer.indexOf(0, at + 19);
    entries.push({
      ino: direntBuffer.readBigUInt64LE(at),
      offset: direntBuffer.readBigInt64LE(at + 8),
      type: direntBuffer[at + 18],
      name: direntBuffer.toString('latin1', at + 19, end),
    });
  }
  return entries;
}

/** All entries from the beginning, `.` and `..` included. */
export function readdir(fd: number): Entry[] | number {
  const rewound = c.lseek(fd, 0, 0);
  if (rewound < 0) return rewound;
  const all: Entry[] = [];
  for (;;) {
    const some = getdents(fd);
    if (typeof some === 'number') return some;
    if (some.length === 0) return all;
    all.push(...some);
  }
}

/** UTIME_NOW and UTIME_OMIT as values of `utimens`. */
export const NOW = 'now';
export const OMIT = 'omit';
export type Time = readonly [seconds: number, nanoseconds: number] | typeof NOW | typeof OMIT;

function timespecs(times: readonly [Time, Time]): Buffer {
  const buffer = Buffer.alloc(32);
  times.forEach((time, i) => {
    const nsec = time === NOW ? 0x3fff_ffff : time === OMIT ? 0x3fff_fffe : time[1];
    buffer.writeBigInt64LE(BigInt(typeof time === 'string' ? 0 : time[0]), i * 16);
    buffer.writeBigInt64LE(BigInt(nsec), i * 16 + 8);
  });
  return buffer;
}

const big = Buffer.alloc(70_000);

/** A value, or -errno. */
type Bytes = Buffer | number;
const taken = (length: number): Bytes =>
  length < 0 ? length : Buffer.from(big.subarray(0, length));

/** Names below a folder's descriptor for calls that only know paths. */
const below = (dir: number, name: string) => cstr(`/proc/self/fd/${dir}/${name}`);

export const sys = {
  open: (dir: number, name: string, flags: number, mode = 0) =>
    c.openat(dir, cstr(name), flags | O.CLOEXEC, mode),
  close: (fd: number) => c.close(fd),
  read: (fd: number, length: number): Bytes => taken(c.read(fd, big, length)),
  pread: (fd: number, length: number, at: number): Bytes => taken(c.pread(fd, big, length, at)),
  write: (fd: number, data: Buffer) => c.write(fd, data, data.length),
  pwrite: (fd: number, data: Buffer, at: number) => c.pwrite(fd, data, data.length, at),
  lseek: (fd: number, at: number, whence: number) => c.lseek(fd, at, whence),
  ftruncate: (fd: number, size: number) => c.ftruncate(fd, size),
  truncate: (dir: number, name: string, size: number) => c.truncate(below(dir, name), size),
  fallocate: (fd: number, mode: number, at: number, length: number) =>
    c.fallocate(fd, mode, at, length),
  fsync: (fd: number) => c.fsync(fd),
  fdatasync: (fd: number) => c.fdatasync(fd),
  syncfs: (fd: number) => c.syncfs(fd),
  mkdir: (dir: number, name: string, mode: number) => c.mkdirat(dir, cstr(name), mode),
  mknod: (dir: number, name: string, mode: number, dev = 0) =>
    c.mknodat(dir, cstr(name), mode, dev),
  unlink: (dir: number, name: string) => c.unlinkat(dir, cstr(name), 0),
  rmdir: (dir: number, name: string) => c.unlinkat(dir, cstr(name), AT.REMOVEDIR),
  symlink: (target: string, dir: number, name: string) =>
    c.symlinkat(cstr(target), dir, cstr(name)),
  readlink: (dir: number, name: string): Bytes => taken(c.readlinkat(dir, cstr(name), big, 5000)),
  link: (dir: number, from: string, to: string, flags = 0) =>
    c.linkat(dir, cstr(from), dir, cstr(to), flags),
  linkFd: (fd: number, dir: number, to: string) =>
    c.linkat(AT.FDCWD, cstr(`/proc/self/fd/${fd}`), dir, cstr(to), AT.SYMLINK_FOLLOW),
  rename: (dir: number, from: string, to: string, flags = 0) =>
    c.renameat2(dir, cstr(from), dir, cstr(to), flags),
  /** With the effective ids, unlike access(2). */
  access: (dir: number, name: string, mode: number) =>
    c.faccessat(dir, cstr(name), mode, AT.EACCESS),
  chmod: (dir: number, name: string, mode: number) => c.fchmodat(dir, cstr(name), mode, 0),
  fchmod: (fd: number, mode: number) => c.fchmod(fd, mode),
  /** `-1` leaves an id as it is. */
  chown: (dir: number, name: string, uid: number, gid: number, flags = 0) =>
    c.fchownat(dir, cstr(name), uid >>> 0, gid >>> 0, flags | (name === '' ? AT.EMPTY_PATH : 0)),
  utimens: (dir: number, name: string, times: readonly [Time, Time], flags = 0) =>
    c.utimensat(dir, name === '' ? null : cstr(name), timespecs(times), flags),
  statfs: (fd: number): { bsize: number; namelen: number } | number => {
    const buffer = Buffer.alloc(128);
    const result = c.fstatfs(fd, buffer);
    if (result < 0) return result;
    return { bsize: Number(buffer.readBigInt64LE(8)), namelen: Number(buffer.readBigInt64LE(64)) };
  },
  setxattr: (dir: number, name: string, key: string, value: Buffer, flags = 0) =>
    c.lsetxattr(below(dir, name), cstr(key), value, value.length, flags),
  fsetxattr: (fd: number, key: string, value: Buffer, flags = 0) =>
    c.fsetxattr(fd, cstr(key), value, value.length, flags),
  getxattr: (dir: number, name: string, key: string): Bytes =>
    taken(c.lgetxattr(below(dir, name), cstr(key), big, big.length)),
  fgetxattr: (fd: number, key: string): Bytes => taken(c.fgetxattr(fd, cstr(key), big, big.length)),
  listxattr: (dir: number, name: string): string[] | number =>
    names(taken(c.llistxattr(below(dir, name), big, big.length))),
  flistxattr: (fd: number): string[] | number => names(taken(c.flistxattr(fd, big, big.length))),
  removexattr: (dir: number, name: string, key: string) =>
    c.lremovexattr(below(dir, name), cstr(key)),
  fremovexattr: (fd: number, key: string) => c.fremovexattr(fd, cstr(key)),
  copyFileRange: (from: number, at: number, to: number, atTo: number, length: number) => {
    const offsets = Buffer.alloc(16);
    offsets.writeBigInt64LE(BigInt(at), 0);
    offsets.writeBigInt64LE(BigInt(atTo), 8);
    return c.copyFileRange(from, offsets.subarray(0, 8), to, offsets.subarray(8), length, 0);
  },
  sendfile: (to: number, from: number, at: number, length: number) => {
    const offset = Buffer.alloc(8);
    offset.writeBigInt64LE(BigInt(at));
    return c.sendfile(to, from, offset, length);
  },
  flock: (fd: number, what: number) => c.flock(fd, what),
  /** F_OFD_SETLK; type 0 read, 1 write, 2 unlock. */
  ofdLock: (fd: number, type: number, at: number, length: number) => {
    const lock = Buffer.alloc(32);
    lock.writeInt16LE(type, 0);
    lock.writeBigInt64LE(BigInt(at), 8);
    lock.writeBigInt64LE(BigInt(length), 16);
    return c.fcntl(fd, 37, lock);
  },
  /** struct file_handle of what a name is, symlinks not followed. */
  nameToHandle: (dir: number, name: string): Bytes => {
    const handle = Buffer.alloc(8 + 128);
    handle.writeUInt32LE(128, 0);
    const result = c.nameToHandle(dir, cstr(name), handle, Buffer.alloc(4), AT.EMPTY_PATH);
    return result < 0 ? result : handle.subarray(0, 8 + handle.readUInt32LE(0));
  },
  /** @param mount any descriptor on the mount, not O_PATH. */
  openByHandle: (mount: number, handle: Buffer, flags: number) =>
    c.openByHandle(mount, handle, flags | O.CLOEXEC),
  umask: (mask: number) => c.umask(mask),
};

function names(list: Bytes): string[] | number {
  if (typeof list === 'number') return list;
  return list.toString('latin1').split('\0').slice(0, -1).sort();
}

/**
 * Runs a function with other effective ids and no supplementary groups, on this thread alone; the
 * capabilities of root are back afterwards. Needs root.
 */
export function asUser<T>(uid: number, gid: number, use: () => T): T {
  if (uid === 0 && gid === 0) return use();
  must(raw(nr.setgroups, 0, 0, 0, 0, 0));
  must(raw(nr.setresgid, -1, gid, -1, 0, 0));
  must(raw(nr.setresuid, -1, uid, -1, 0, 0));
  try {
    return use();
  } finally {
    must(raw(nr.setresuid, -1, 0, -1, 0, 0));
    must(raw(nr.setresgid, -1, 0, -1, 0, 0));
  }
}

const mount = declare(
  'int mount(void *source, void *target, void *type, unsigned long flags, void *data)',
);
const umount2 = declare('int umount2(void *target, int flags)');

/**
 * Puts this thread, and what it starts, into a mount namespace of its own, where nothing is mounted
 * below the given folders: nobody who copies the outer namespace keeps a mount of ours busy, and we
 * keep none of theirs. For the main thread; a process has no way back. Needs root.
 */
export function enterOwnMountNamespace(folders: readonly string[]): void {
  const newNamespace = 0x20000;
  const privateBelow = 0x4000 | 0x40000;
  const detach = 2;
  must(raw(nr.unshare, newNamespace, 0, 0, 0, 0));
  must(mount(null, cstr('/'), null, privateBelow, null));
  for (const folder of folders) {
    if (folder === '/') continue;
    for (const { target } of mountsBelow(folder)) umount2(cstr(target), detach);
  }
}

/** The kernel lets go of all names of a FUSE mount that are not in use, as when memory is short; its server is told. */
export function forgetNames(mountpoint: string): number {
  const remount = 0x20;
  const nosuidNodev = 0x2 | 0x4;
  return mount(null, cstr(mountpoint), null, remount | nosuidNodev, null);
}

/** The result of a call that a test cannot go on without. */
export function must(result: number): number {
  if (result < 0) throw new Error(`system call failed: ${show(result)}`);
  return result;
}
