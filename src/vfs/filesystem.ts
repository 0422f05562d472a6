// The waist of the house: what a filesystem is, as one interface with one method an operation.
// fuse/ decodes a kernel request and calls down; overlay/ and imagefs/ implement it; notifications go up through Host.
// Semantics follow the VFS (Documentation/filesystems/vfs.rst); records have the kernel's own layout, see attr.ts.

/**
 * Conventions of every method:
 * - Names are arena offsets of NUL-terminated bytes with their length; output goes to an arena offset, 8-byte aligned.
 * - The result is the number of payload bytes written (0 when the reply has none), a negative errno, ABSENT or PARKED.
 * - 64-bit ids travel as two unsigned 32-bit halves (lo, hi); offsets and sizes are Numbers, in bytes.
 * - Methods never throw for an expected failure; whatever is thrown becomes EIO and is logged by the dispatcher.
 */
export const ABSENT = -0x10000;

/** Somebody else answers this request: a worker thread, or this one after Host.resume(). */
export const PARKED = -0x10001;

/** The request being handled: one record a server thread, overwritten for each request. */
export interface Request {
  opcode: number;
  /** Request id, echoed in the reply. */
  uniqueLo: number;
  uniqueHi: number;
  /** The node the request is about (the parent directory for LOOKUP, CREATE, UNLINK...). */
  nodeLo: number;
  nodeHi: number;
  uid: number;
  gid: number;
  pid: number;
  /** umask of the caller for CREATE, MKDIR, MKNOD, TMPFILE; else 0. */
  umask: number;
  /** OPEN and CREATE that truncate: suid and sgid must go; SETXATTR of an ACL: sgid must go. Else false. */
  killPriv: boolean;
  /**
   * A predecessor has begun this very request and may have made its change visible: an effect that is there already is
   * this request's own. False for all others.
   */
  redo: boolean;
}

/** What open, create and opendir answer besides their result. One record a server thread. */
export interface OpenReply {
  fhLo: number;
  fhHi: number;
  /** OPEN bits below. */
  flags: number;
  /** A backing id from Host.backingOpen() for passthrough, or 0. */
  backingId: number;
}

/** Bits of OpenReply.flags; the same values as FOPEN_* of include/uapi/linux/fuse.h. */
export const OPEN = {
  DIRECT_IO: 1,
  KEEP_CACHE: 2,
  NONSEEKABLE: 4,
  CACHE_DIR: 8,
  STREAM: 16,
  NOFLUSH: 32,
  PARALLEL_DIRECT_WRITES: 64,
  PASSTHROUGH: 128,
} as const;

/** Bits of SetAttr.valid; the same values as FATTR_*. */
export const SETATTR = {
  MODE: 1,
  UID: 2,
  GID: 4,
  SIZE: 8,
  ATIME: 16,
  MTIME: 32,
  FH: 64,
  ATIME_NOW: 128,
  MTIME_NOW: 256,
  CTIME: 1024,
  KILL_SUIDGID: 2048,
} as const;

/** The arguments of setattr. One record a server thread; a field counts only when its bit is set in `valid`. */
export interface SetAttr {
  valid: number;
  fhLo: number;
  fhHi: number;
  size: number;
  atimeLo: number;
  atimeHi: number;
  atimeNsec: number;
  mtimeLo: number;
  mtimeHi: number;
  mtimeNsec: number;
  ctimeLo: number;
  ctimeHi: number;
  ctimeNsec: number;
  mode: number;
  uid: number;
  gid: number;
}

/** Where readdir puts its entries; knows the reply's size and form. */
export interface DirSink {
  /** READDIRPLUS: `entry` must be filled (as lookup does) before add(); node id 0 there means "no attributes". */
  readonly plus: boolean;
  /** Whether an entry with this name length still fits; ask before counting a lookup. */
  fits(nameLen: number): boolean;
  /** Arena offset of the ENTRY record of the next add(); only when `plus`. Zeroed by the sink. */
  entry: number;
  /**
   * @param offset cookie at which the following entry is found. @param type a DT_* value.
   * @param bytes where `name` is an offset in; absent: the arena.
   */
  add(
    inoLo: number,
    inoHi: number,
    offset: number,
    type: number,
    name: number,
    nameLen: number,
    bytes?: Uint8Array,
  ): void;
}

/** A saved request that will be handled again from its start. Opaque to the filesystem. */
export type Deferred = object;

/** As pread(2) to an arena offset: bytes or -errno. */
export type ReadFile = (file: number, out: number, size: number, offset: number) => number;

/** What the server offers a filesystem: the upward channel, and work on other threads. */
export interface Host {
  /**
   * Saves the current request; the caller then returns PARKED.
   * @param dropped called when nobody waits for its answer any more: its caller was killed.
   */
  defer(dropped?: () => void): Deferred;
  /** Handles a saved request again, on this thread, after the current one. */
  resume(saved: Deferred): void;
  /** Answers a saved request -errno. */
  refuse(saved: Deferred, error: number): void;
  /** Drops the kernel's cached attributes, and data from `offset` (negative: attributes only; length 0: to the end). */
  invalInode(nodeLo: number, nodeHi: number, offset: number, length: number): void;
  /** Drops a cached name. */
  invalEntry(parentLo: number, parentHi: number, name: number, nameLen: number): void;
  /** As invalEntry(), and watchers (inotify) of the node see it deleted; only while the name still means the node. */
  notifyDelete(
    parentLo: number,
    parentHi: number,
    nodeLo: number,
    nodeHi: number,
    name: number,
    nameLen: number,
  ): void;
  /**
   * Gives the kernel the first bytes of a file with its OPEN, so that it need not ask: a small file is read without
   * another request. Only while nobody has the file open: a page that waits for a READ would be waited for.
   * What is not in memory is left to READ, where the filesystem of `fd` can tell.
   * @param read reads `file` where that is not a descriptor.
   */
  storeStart(nodeLo: number, nodeHi: number, file: number, read?: ReadFile): void;
  /**
   * Does unbounded work on this thread without anybody waiting for it: `step` is called between requests, about a
   * millisecond's worth at a time, until it returns false.
   * @param optional it is dropped when the server leaves: whoever comes next does it. Else the server stays for it.
   */
  errand(step: () => boolean, optional?: boolean): void;
  /** Registers `fd` for passthrough. @returns backing id > 0, or -errno (EPERM where not permitted). */
  backingOpen(fd: number): number;
  backingClose(id: number): void;
  /** Whether passthrough was negotiated. */
  readonly passthrough: boolean;
  /** Whether the kernel opens directories itself after one -ENOSYS; readdir then gets no handle. */
  readonly noOpendir: boolean;
  /** Whether the writeback cache was negotiated (then files are opened readable and never O_APPEND). */
  readonly writeback: boolean;
  /** Work for another thread; see jobs.ts. */
  readonly jobs: JobRunner;
}

/** Kinds of work that may wait or is unbounded. Arguments a..e are fds, bytes or mode bits, as named. */
export const JOB = {
  /** a: fd; b: 1 for fdatasync. */
  FSYNC: 1,
  /** a: fd of the filesystem. */
  SYNCFS: 2,
  /** a: fd, b: mode, c: offset, d: length. */
  FALLOCATE: 3,
  /** a: from fd, b: from offset, c: to fd, d: to offset, e: length. The reply carries the bytes copied. */
  COPY_RANGE: 4,
  /** a: from fd, b: to fd, c: size in bytes, d: 1 to fsync the copy. Holes are kept. */
  COPY_FILE: 5,
  /** a: fd, b: arena offset of a digest, c: its bytes. Of composefs only: see ServeOptions.work. */
  VERIFY: 6,
} as const;

/** Does a job on whichever thread. @returns >= 0 or -errno. */
export type Perform = (
  kind: number,
  a: number,
  b: number,
  c: number,
  d: number,
  e: number,
) => number;

export interface JobRunner {
  /** Jobs and notifications that are queued or being done. */
  readonly pending?: number;
  /**
   * Runs a job on a worker thread, which writes the reply of the current request itself. The caller returns PARKED.
   * The fds must stay open until then (the kernel sends no RELEASE before the reply).
   */
  parkReply(kind: number, a: number, b: number, c: number, d: number, e: number): number;
  /** Runs a job on a worker thread; `done` is called on the server's thread with >= 0 or -errno. */
  run(
    kind: number,
    a: number,
    b: number,
    c: number,
    d: number,
    e: number,
    done: (result: number) => void,
  ): void;
}

/** A nodeid in halves. */
export type NodeRef = readonly [lo: number, hi: number];

/** A filesystem. Methods carry the name of their operation; see the conventions above. */
export interface FileSystem {
  /** Called once the session is negotiated, before any request. */
  start(host: Host): void;
  /**
   * Instead of start(): takes over what a predecessor left in the tables of the arena. Its descriptors are gone, and
   * nothing in JavaScript memory is left of it. A filesystem without this method cannot be succeeded: its mount fails with its server.
   */
  succeed?(host: Host): void;
  /** false: no file has a POSIX ACL, so the kernel need not ask. */
  readonly acl?: boolean;
  /** readdir() may be called for pieces that nobody has asked for: directories never change, and no lookup is counted. */
  readonly listsAhead?: boolean;
  /**
   * A writable directory that no name leads to and whose content nobody keeps, with one lookup counted: the server warms
   * up there, in idle time. Undefined where there can be none.
   */
  practicePlace?(): NodeRef | undefined;
  /** The mount is gone (DESTROY or ENODEV): everything is closed. */
  stop(): void;

  /** `out`: ENTRY. ABSENT when there is no such name; counts one lookup otherwise. */
  lookup(r: Request, name: number, nameLen: number, out: number): number;
  /** Takes back `count` lookups of a node. No reply. */
  forget(nodeLo: number, nodeHi: number, count: number): void;

  /** `out`: ATTR. `hasFh`: the caller's open file (fhLo, fhHi). */
  getattr(r: Request, hasFh: boolean, fhLo: number, fhHi: number, out: number): number;
  setattr(r: Request, set: SetAttr, out: number): number;
  readlink(r: Request, out: number, size: number): number;
  /** `out`: struct fuse_kstatfs (80 bytes), see attr.ts. */
  statfs(r: Request, out: number): number;
  access(r: Request, mask: number): number;

  mknod(r: Request, name: number, nameLen: number, mode: number, rdev: number, out: number): number;
  mkdir(r: Request, name: number, nameLen: number, mode: number, out: number): number;
  symlink(r: Request, name: number, nameLen: number, target: number, out: number): number;
  link(
    r: Request,
    oldLo: number,
    oldHi: number,
    name: number,
    nameLen: number,
    out: number,
  ): number;
  unlink(r: Request, name: number, nameLen: number): number;
  rmdir(r: Request, name: number, nameLen: number): number;
  rename(
    r: Request,
    name: number,
    nameLen: number,
    newParentLo: number,
    newParentHi: number,
    newName: number,
    newNameLen: number,
    flags: number,
  ): number;

  open(r: Request, flags: number, reply: OpenReply): number;
  /** `out`: ENTRY. */
  create(
    r: Request,
    name: number,
    nameLen: number,
    flags: number,
    mode: number,
    out: number,
    reply: OpenReply,
  ): number;
  /** An unnamed file in directory r.node. `out`: ENTRY. */
  tmpfile(r: Request, flags: number, mode: number, out: number, reply: OpenReply): number;
  read(r: Request, fhLo: number, fhHi: number, out: number, size: number, offset: number): number;
  /** @returns bytes written, or -errno. `killPriv`: drop suid and sgid bits. */
  write(
    r: Request,
    fhLo: number,
    fhHi: number,
    data: number,
    size: number,
    offset: number,
    killPriv: boolean,
  ): number;
  flush(r: Request, fhLo: number, fhHi: number): number;
  release(r: Request, fhLo: number, fhHi: number): number;
  fsync(r: Request, fhLo: number, fhHi: number, dataOnly: boolean): number;
  fallocate(
    r: Request,
    fhLo: number,
    fhHi: number,
    offset: number,
    length: number,
    mode: number,
  ): number;
  /** @returns the new offset in bytes, or -errno. */
  lseek(r: Request, fhLo: number, fhHi: number, offset: number, whence: number): number;
  /** @returns bytes copied, or -errno. */
  copyFileRange(
    r: Request,
    fhLo: number,
    fhHi: number,
    offset: number,
    outNodeLo: number,
    outNodeHi: number,
    outFhLo: number,
    outFhHi: number,
    outOffset: number,
    length: number,
  ): number;
  syncfs(r: Request): number;

  /** -ENOSYS where Host.noOpendir: never asked again. */
  opendir(r: Request, flags: number, reply: OpenReply): number;
  /** Fills `sink` from the entry with cookie `offset` on; fh 0 where Host.noOpendir. @returns 0 or -errno. */
  readdir(r: Request, fhLo: number, fhHi: number, offset: number, sink: DirSink): number;
  releasedir(r: Request, fhLo: number, fhHi: number): number;
  fsyncdir(r: Request, fhLo: number, fhHi: number, dataOnly: boolean): number;

  /** @returns length of the value; with size 0 nothing is written. -ENODATA, -ERANGE. */
  getxattr(r: Request, name: number, nameLen: number, out: number, size: number): number;
  listxattr(r: Request, out: number, size: number): number;
  setxattr(
    r: Request,
    name: number,
    nameLen: number,
    value: number,
    size: number,
    flags: number,
  ): number;
  removexattr(r: Request, name: number, nameLen: number): number;
}
