// The kernel's FUSE ABI as data: structs, flags, notification codes, device ioctls.
// Read by the opcode table, session, dispatch, trace and tests; holds no logic.
// Follows: include/uapi/linux/fuse.h, ABI 7.45 (Linux 6.18); Linux 6.1 speaks 7.37, a prefix of it.

import { i32, i64, pad, struct, u16, u32, u64 } from '../bytes/struct.js';

export const FUSE_KERNEL_VERSION = 7;
export const FUSE_KERNEL_MINOR_VERSION = 45;
/** Oldest minor version whose structs are these (Linux 5.4); the session refuses an older kernel. */
export const FUSE_OLDEST_MINOR_VERSION = 31;

/** 40 bytes before every request. */
export const FuseInHeader = struct('fuse_in_header', 40, {
  len: [0, u32], // bytes, this header included
  opcode: [4, u32],
  unique: [8, u64], // request id, echoed in the reply; bit 63 marks a resent request

  nodeid: [16, u64],
  uid: [24, u32],
  gid: [28, u32],

  pid: [32, u32], // thread id of the caller; 0 when the kernel itself asks (writeback)
  total_extlen: [36, u16], // extensions at the end, in units of 8 bytes
  padding: [38, pad(2)],
});

/** 16 bytes before every reply and notification. */
export const FuseOutHeader = struct('fuse_out_header', 16, {
  len: [0, u32], // bytes, this header included
  error: [4, i32], // 0 or -errno; for a notification (unique 0) its code
  unique: [8, u64],
});

export const FuseAttr = struct('fuse_attr', 88, {
  ino: [0, u64],
  size: [8, u64], // bytes

  blocks: [16, u64], // 512-byte sectors
  atime: [24, i64], // seconds; the three times are signed in fact

  mtime: [32, i64],
  ctime: [40, i64],

  atimensec: [48, u32],
  mtimensec: [52, u32],
  ctimensec: [56, u32],
  mode: [60, u32],

  nlink: [64, u32],
  uid: [68, u32],
  gid: [72, u32],
  rdev: [76, u32], // new_encode_dev()

  blksize: [80, u32],
  flags: [84, u32], // FUSE_ATTR_*
});

export const FuseEntryOut = struct('fuse_entry_out', 128, {
  nodeid: [0, u64], // 0: a negative entry
  generation: [8, u64],

  entry_valid: [16, u64], // seconds
  attr_valid: [24, u64],

  entry_valid_nsec: [32, u32],
  attr_valid_nsec: [36, u32],
  attr: [40, FuseAttr],
});

export const FuseAttrOut = struct('fuse_attr_out', 104, {
  attr_valid: [0, u64], // seconds
  attr_valid_nsec: [8, u32],
  dummy: [12, pad(4)],

  attr: [16, FuseAttr],
});

export const FuseKstatfs = struct('fuse_kstatfs', 80, {
  blocks: [0, u64], // in units of frsize
  bfree: [8, u64],

  bavail: [16, u64],
  files: [24, u64],

  ffree: [32, u64],
  bsize: [40, u32],
  namelen: [44, u32],

  frsize: [48, u32],
  padding: [52, pad(4)],
  spare: [56, pad(24)],
});

export const FuseForgetIn = struct('fuse_forget_in', 8, {
  nlookup: [0, u64],
});

export const FuseForgetOne = struct('fuse_forget_one', 16, {
  nodeid: [0, u64],
  nlookup: [8, u64],
});

/** Followed by `count` times fuse_forget_one. */
export const FuseBatchForgetIn = struct('fuse_batch_forget_in', 8, {
  count: [0, u32],
  dummy: [4, pad(4)],
});

export const FuseGetattrIn = struct('fuse_getattr_in', 16, {
  getattr_flags: [0, u32], // FUSE_GETATTR_FH
  dummy: [4, pad(4)],
  fh: [8, u64],
});

export const FuseSetattrIn = struct('fuse_setattr_in', 88, {
  valid: [0, u32], // FATTR_*
  padding: [4, pad(4)],
  fh: [8, u64],

  size: [16, u64], // bytes
  lock_owner: [24, u64],

  atime: [32, i64], // seconds
  mtime: [40, i64],

  ctime: [48, i64],
  atimensec: [56, u32],
  mtimensec: [60, u32],

  ctimensec: [64, u32],
  mode: [68, u32],
  unused4: [72, pad(4)],
  uid: [76, u32],

  gid: [80, u32],
  unused5: [84, pad(4)],
});

export const FuseMknodIn = struct('fuse_mknod_in', 16, {
  mode: [0, u32],
  rdev: [4, u32], // new_encode_dev()
  umask: [8, u32],
  padding: [12, pad(4)],
});

export const FuseMkdirIn = struct('fuse_mkdir_in', 8, {
  mode: [0, u32],
  umask: [4, u32],
});

export const FuseRenameIn = struct('fuse_rename_in', 8, {
  newdir: [0, u64],
});

export const FuseRename2In = struct('fuse_rename2_in', 16, {
  newdir: [0, u64],
  flags: [8, u32], // RENAME_*
  padding: [12, pad(4)],
});

export const FuseLinkIn = struct('fuse_link_in', 8, {
  oldnodeid: [0, u64],
});

export const FuseOpenIn = struct('fuse_open_in', 8, {
  flags: [0, u32], // O_*
  open_flags: [4, u32], // FUSE_OPEN_KILL_SUIDGID
});

export const FuseCreateIn = struct('fuse_create_in', 16, {
  flags: [0, u32], // O_*
  mode: [4, u32],
  umask: [8, u32],
  open_flags: [12, u32], // FUSE_OPEN_KILL_SUIDGID
});

export const FuseOpenOut = struct('fuse_open_out', 16, {
  fh: [0, u64],
  open_flags: [8, u32], // FOPEN_*
  backing_id: [12, i32], // with FOPEN_PASSTHROUGH
});

export const FuseCreateOut = struct('fuse_create_out', 144, {
  entry: [0, FuseEntryOut],
  open: [128, FuseOpenOut],
});

export const FuseReleaseIn = struct('fuse_release_in', 24, {
  fh: [0, u64],
  flags: [8, u32], // O_*
  release_flags: [12, u32], // FUSE_RELEASE_*

  lock_owner: [16, u64],
});

export const FuseFlushIn = struct('fuse_flush_in', 24, {
  fh: [0, u64],
  unused: [8, pad(4)],
  padding: [12, pad(4)],

  lock_owner: [16, u64],
});

export const FuseReadIn = struct('fuse_read_in', 40, {
  fh: [0, u64],
  offset: [8, u64], // bytes; for READDIR the cookie of the next entry

  size: [16, u32], // bytes that the reply may carry
  read_flags: [20, u32],
  lock_owner: [24, u64],

  flags: [32, u32], // O_*
  padding: [36, pad(4)],
});

export const FuseWriteIn = struct('fuse_write_in', 40, {
  fh: [0, u64],
  offset: [8, u64], // bytes

  size: [16, u32], // bytes of data that follow
  write_flags: [20, u32], // FUSE_WRITE_*
  lock_owner: [24, u64],

  flags: [32, u32], // O_*
  padding: [36, pad(4)],
});

export const FuseWriteOut = struct('fuse_write_out', 8, {
  size: [0, u32], // bytes written
  padding: [4, pad(4)],
});

export const FuseFsyncIn = struct('fuse_fsync_in', 16, {
  fh: [0, u64],
  fsync_flags: [8, u32], // FUSE_FSYNC_FDATASYNC
  padding: [12, pad(4)],
});

/** The form with FUSE_SETXATTR_EXT; without it only the first 8 bytes are sent. */
export const FuseSetxattrIn = struct('fuse_setxattr_in', 16, {
  size: [0, u32], // bytes of the value
  flags: [4, u32], // XATTR_CREATE, XATTR_REPLACE
  setxattr_flags: [8, u32], // FUSE_SETXATTR_ACL_KILL_SGID
  padding: [12, pad(4)],
});
export const FUSE_COMPAT_SETXATTR_IN_SIZE = 8;

export const FuseGetxattrIn = struct('fuse_getxattr_in', 8, {
  size: [0, u32], // bytes the caller has room for; 0 asks for the length
  padding: [4, pad(4)],
});

export const FuseLkIn = struct('fuse_lk_in', 48, {
  fh: [0, u64],
  owner: [8, u64],

  start: [16, u64],
  end: [24, u64],

  type: [32, u32],
  pid: [36, u32],
  lk_flags: [40, u32],
  padding: [44, pad(4)],
});

export const FuseAccessIn = struct('fuse_access_in', 8, {
  mask: [0, u32], // R_OK | W_OK | X_OK
  padding: [4, pad(4)],
});

/** The first 16 bytes are all that kernels before 7.36 send. */
export const FuseInitIn = struct('fuse_init_in', 64, {
  major: [0, u32],
  minor: [4, u32],
  max_readahead: [8, u32], // bytes
  flags: [12, u32], // INIT bits 0..31

  flags2: [16, u32], // INIT bits 32..63
  unused: [20, pad(44)],
});
export const FUSE_COMPAT_INIT_IN_SIZE = 16;

export const FuseInitOut = struct('fuse_init_out', 64, {
  major: [0, u32],
  minor: [4, u32],
  max_readahead: [8, u32], // bytes
  flags: [12, u32], // INIT bits 0..31

  max_background: [16, u16], // requests nobody waits for, at most this many at once
  congestion_threshold: [18, u16],
  max_write: [20, u32], // bytes
  time_gran: [24, u32], // nanoseconds
  max_pages: [28, u16], // pages of 4096 bytes in one request
  map_alignment: [30, u16],

  flags2: [32, u32], // INIT bits 32..63
  max_stack_depth: [36, u32], // for passthrough; 1 lets an overlay be mounted on top
  request_timeout: [40, u16], // seconds, 0: none
  unused: [42, pad(22)],
});

export const FuseInterruptIn = struct('fuse_interrupt_in', 8, {
  unique: [0, u64], // the request whose caller got a signal
});

export const FuseBmapIn = struct('fuse_bmap_in', 16, {
  block: [0, u64],
  blocksize: [8, u32],
  padding: [12, pad(4)],
});

export const FuseIoctlIn = struct('fuse_ioctl_in', 32, {
  fh: [0, u64],
  flags: [8, u32],
  cmd: [12, u32],

  arg: [16, u64],
  in_size: [24, u32],
  out_size: [28, u32],
});

export const FusePollIn = struct('fuse_poll_in', 24, {
  fh: [0, u64],
  kh: [8, u64],

  flags: [16, u32],
  events: [20, u32],
});

export const FuseFallocateIn = struct('fuse_fallocate_in', 32, {
  fh: [0, u64],
  offset: [8, u64], // bytes

  length: [16, u64], // bytes
  mode: [24, u32], // FALLOC_FL_*
  padding: [28, pad(4)],
});

export const FuseLseekIn = struct('fuse_lseek_in', 24, {
  fh: [0, u64],
  offset: [8, u64],

  whence: [16, u32], // SEEK_DATA or SEEK_HOLE; the kernel does the others
  padding: [20, pad(4)],
});

export const FuseLseekOut = struct('fuse_lseek_out', 8, {
  offset: [0, u64],
});

export const FuseCopyFileRangeIn = struct('fuse_copy_file_range_in', 56, {
  fh_in: [0, u64],
  off_in: [8, u64], // bytes

  nodeid_out: [16, u64],
  fh_out: [24, u64],

  off_out: [32, u64],
  len: [40, u64], // bytes

  flags: [48, u64],
});

/** Reply of COPY_FILE_RANGE_64 (7.45); COPY_FILE_RANGE answers fuse_write_out. */
export const FuseCopyFileRangeOut = struct('fuse_copy_file_range_out', 8, {
  bytes_copied: [0, u64],
});

export const FuseSyncfsIn = struct('fuse_syncfs_in', 8, {
  padding: [0, pad(8)],
});

export const FuseStatxIn = struct('fuse_statx_in', 24, {
  getattr_flags: [0, u32],
  reserved: [4, pad(4)],
  fh: [8, u64],

  sx_flags: [16, u32],
  sx_mask: [20, u32],
});

/** Followed by `namelen` bytes of name and zeros up to a multiple of 8. */
export const FuseDirent = struct('fuse_dirent', 24, {
  ino: [0, u64],
  off: [8, u64], // cookie of the entry after this one

  namelen: [16, u32],
  type: [20, u32], // DT_*
});

export const FuseDirentplus = struct('fuse_direntplus', 152, {
  entry_out: [0, FuseEntryOut],
  dirent: [128, FuseDirent],
});

export const FuseNotifyInvalInodeOut = struct('fuse_notify_inval_inode_out', 24, {
  ino: [0, u64], // a nodeid
  off: [8, i64], // bytes; negative: attributes only

  len: [16, i64], // bytes; 0: to the end
});

/** Followed by the name and a NUL. */
export const FuseNotifyInvalEntryOut = struct('fuse_notify_inval_entry_out', 16, {
  parent: [0, u64],
  namelen: [8, u32], // without the NUL
  flags: [12, u32],
});

/** Followed by the data. */
export const FuseNotifyStoreOut = struct('fuse_notify_store_out', 24, {
  nodeid: [0, u64],
  offset: [8, u64], // bytes

  size: [16, u32], // bytes
  padding: [20, pad(4)],
});

/** Followed by the name and a NUL. */
export const FuseNotifyDeleteOut = struct('fuse_notify_delete_out', 24, {
  parent: [0, u64],
  child: [8, u64],

  namelen: [16, u32],
  padding: [20, pad(4)],
});

/** Bits of INIT's flags; those from SECURITY_CTX on belong into flags2, see INIT2. */
export const INIT = {
  ASYNC_READ: 1 << 0,
  POSIX_LOCKS: 1 << 1,
  FILE_OPS: 1 << 2,
  ATOMIC_O_TRUNC: 1 << 3,
  EXPORT_SUPPORT: 1 << 4,
  BIG_WRITES: 1 << 5,
  DONT_MASK: 1 << 6,
  SPLICE_WRITE: 1 << 7,
  SPLICE_MOVE: 1 << 8,
  SPLICE_READ: 1 << 9,
  FLOCK_LOCKS: 1 << 10,
  HAS_IOCTL_DIR: 1 << 11,
  AUTO_INVAL_DATA: 1 << 12,
  DO_READDIRPLUS: 1 << 13,
  READDIRPLUS_AUTO: 1 << 14,
  ASYNC_DIO: 1 << 15,
  WRITEBACK_CACHE: 1 << 16,
  NO_OPEN_SUPPORT: 1 << 17,
  PARALLEL_DIROPS: 1 << 18,
  HANDLE_KILLPRIV: 1 << 19,
  POSIX_ACL: 1 << 20,
  ABORT_ERROR: 1 << 21,
  MAX_PAGES: 1 << 22,
  CACHE_SYMLINKS: 1 << 23,
  NO_OPENDIR_SUPPORT: 1 << 24,
  EXPLICIT_INVAL_DATA: 1 << 25,
  MAP_ALIGNMENT: 1 << 26,
  SUBMOUNTS: 1 << 27,
  HANDLE_KILLPRIV_V2: 1 << 28,
  SETXATTR_EXT: 1 << 29,
  INIT_EXT: 1 << 30,
} as const;

/** Bits 32..63 of INIT's flags, as they stand in flags2. */
export const INIT2 = {
  SECURITY_CTX: 1 << 0,
  HAS_INODE_DAX: 1 << 1,
  CREATE_SUPP_GROUP: 1 << 2,
  HAS_EXPIRE_ONLY: 1 << 3,
  DIRECT_IO_ALLOW_MMAP: 1 << 4,
  PASSTHROUGH: 1 << 5,
  NO_EXPORT_SUPPORT: 1 << 6,
  HAS_RESEND: 1 << 7,
  ALLOW_IDMAP: 1 << 8,
  OVER_IO_URING: 1 << 9,
  REQUEST_TIMEOUT: 1 << 10,
} as const;

export const FUSE_GETATTR_FH = 1;
export const FUSE_OPEN_KILL_SUIDGID = 1;
export const FUSE_WRITE_KILL_SUIDGID = 4;
export const FUSE_FSYNC_FDATASYNC = 1;
export const FUSE_SETXATTR_ACL_KILL_SGID = 1;
/** FATTR bits that reach a filesystem (LOCKOWNER does not). */
export const FATTR_KNOWN = 0xdff;

/** Codes of notifications: `error` of a fuse_out_header whose unique is 0. */
export const NOTIFY = {
  POLL: 1,
  INVAL_INODE: 2,
  INVAL_ENTRY: 3,
  STORE: 4,
  RETRIEVE: 5,
  DELETE: 6,
  RESEND: 7,
  INC_EPOCH: 8,
  PRUNE: 9,
} as const;
