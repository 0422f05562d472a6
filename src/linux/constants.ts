// Numbers of the kernel's ABI that this project uses, by family; O_* by architecture.
// Used by every room; holds no code.
// Follows: include/uapi/{asm-generic/fcntl,linux/stat,linux/fs,linux/xattr,linux/mount}.h of Linux 6.18.

const ARM = process.arch === 'arm64' || process.arch === 'arm';

/** Flags of open(2). O_DIRECTORY, O_NOFOLLOW, O_DIRECT and O_LARGEFILE differ on Arm. */
export const O = {
  RDONLY: 0,
  WRONLY: 1,
  RDWR: 2,
  ACCMODE: 3,
  CREAT: 0o100,
  EXCL: 0o200,
  NOCTTY: 0o400,
  TRUNC: 0o1000,
  APPEND: 0o2000,
  NONBLOCK: 0o4000,
  DSYNC: 0o10000,
  DIRECT: ARM ? 0o200000 : 0o40000,
  LARGEFILE: ARM ? 0o400000 : 0o100000,
  DIRECTORY: ARM ? 0o40000 : 0o200000,
  NOFOLLOW: ARM ? 0o100000 : 0o400000,
  NOATIME: 0o1000000,
  CLOEXEC: 0o2000000,
  SYNC: 0o4010000,
  PATH: 0o10000000,
  TMPFILE: (ARM ? 0o40000 : 0o200000) | 0o20000000,
} as const;

export const AT = {
  FDCWD: -100,
  SYMLINK_NOFOLLOW: 0x100,
  REMOVEDIR: 0x200,
  SYMLINK_FOLLOW: 0x400,
  NO_AUTOMOUNT: 0x800,
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
  ISUID: 0o4000,
  ISGID: 0o2000,
  ISVTX: 0o1000,
} as const;

/** d_type of getdents64(2); equal to (mode & S_IFMT) >> 12. */
export const DT = {
  UNKNOWN: 0,
  FIFO: 1,
  CHR: 2,
  DIR: 4,
  BLK: 6,
  REG: 8,
  LNK: 10,
  SOCK: 12,
} as const;

export const RENAME = { NOREPLACE: 1, EXCHANGE: 2, WHITEOUT: 4 } as const;
export const SEEK = { SET: 0, CUR: 1, END: 2, DATA: 3, HOLE: 4 } as const;

export const MS = {
  RDONLY: 1,
  NOSUID: 2,
  NODEV: 4,
  NOEXEC: 8,
  SYNCHRONOUS: 16,
  REMOUNT: 32,
  DIRSYNC: 128,
  NOATIME: 1024,
  NODIRATIME: 2048,
  BIND: 4096,
  REC: 16384,
  PRIVATE: 1 << 18,
  RELATIME: 1 << 21,
} as const;

export const MNT = { FORCE: 1, DETACH: 2, EXPIRE: 4, NOFOLLOW: 8 } as const;

/** f_type of statfs(2). */
export const MAGIC = {
  TMPFS: 0x01021994,
  EXT4: 0xef53,
  XFS: 0x58465342,
  BTRFS: 0x9123683e,
  OVERLAYFS: 0x794c7630,
  FUSE: 0x65735546,
  SQUASHFS: 0x73717368,
  EROFS: 0xe0f5e1e2,
  ISOFS: 0x9660,
  CRAMFS: 0x28cd3d45,
  ROMFS: 0x7275,
} as const;

/** Largest xattr value and list, bytes (XATTR_SIZE_MAX, XATTR_LIST_MAX). */
export const XATTR_SIZE_MAX = 65536;

/** Longest file name, bytes (NAME_MAX). */
export const NAME_MAX = 255;
