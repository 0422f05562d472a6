// What can be stacked: the interface of a layer. overlay/ knows this file and no concrete layer.
// Objects are named as (directory record, name), the way the *at() system calls name them.
// Results are >= 0 or -errno; attributes go to statBuffer() of linux/files.ts as struct statx.

import type { EntryCallback } from '../linux/dirents.js';

export {
  awaitContent,
  closeFile,
  isContent,
  isFileHere,
  NOT_HERE,
  readFile,
  seekFile,
  wantSoon,
} from './content.js';
export {
  D,
  get as dirGet,
  isHiding,
  isTelling,
  layerOf,
  markHiding,
  markTelling,
  resetDirs,
  retainDir,
} from './dirs.js';

/** A read-only tree. All names are arena offsets of NUL-terminated bytes; an empty name is the directory itself. */
export interface Layer {
  /** Position in the stack: 0 is the upper, then the lowers from the top. */
  readonly index: number;
  /** What to call it in messages: the path as given. */
  readonly label: string;
  /** Record of the root directory. */
  readonly root: number;
  /** Of the filesystem's identity, 21 bits, not 0: what is shown is its own inode number with this in the high half (XOR). */
  readonly key: number;
  /** Listings name the inode numbers that stat tells: not so where a filesystem is put together of others. */
  readonly listsNumbers: boolean;
  /** UUID of the filesystem as in file handles, 16 bytes; zeros when it has none. */
  readonly uuid: Uint8Array;
  /** f_type of statfs(2). */
  readonly magic: number;
  /** What open() gives are content numbers, never descriptors: opening costs nothing and keeps nothing. */
  readonly contentOnly: boolean;
  /** A composefs image: most of its files are metacopy files, whose data must be in another layer. */
  readonly metadataOnly: boolean;

  /** Attributes to statBuffer(). @returns st_mode, or -errno. */
  stat(dir: number, name: number): number;
  /** Attributes of a directory record itself. */
  statDir(dir: number): number;
  /** The record of subdirectory `name`, with one reference for the caller; 0 when the table is full. */
  enter(dir: number, name: number, nameLen: number): number;
  release(dir: number): void;
  /**
   * A regular file, read-only: a descriptor, or a content number (content.ts) where the layer has no descriptors; the caller
   * ends it with closeFile(). Leaves the atime where allowed.
   */
  open(dir: number, name: number): number;
  readlink(dir: number, name: number, out: number, size: number): number;
  getxattr(dir: number, name: number, attr: number, out: number, size: number): number;
  listxattr(dir: number, name: number, out: number, size: number): number;
  /**
   * Lists a directory: `entry` is called for each name but "." and "..", with d_ino and d_type.
   * The name is valid only during the call. @returns 0 or -errno.
   */
  list(dir: number, entry: EntryCallback): number;
  /** A file handle as in overlayfs: type and bytes at `out` (struct file_handle). @returns handle_bytes, or -errno. */
  handle(dir: number, name: number, out: number): number;
  /**
   * Whether the filesystem still has what the struct file_handle at `handle` names.
   * @returns 1, 0, or -errno where nobody can tell (EPERM: not this process).
   */
  hasHandle(handle: number): number;
  /**
   * Where an inode lies, as far as the filesystem tells without a search: a path from the layer's root without a leading
   * slash, one code unit a byte. A guess: whoever uses it looks whether the number is there. Absent: it never tells.
   */
  pathOf?(inoLo: number, inoHi: number): string | undefined;
  /** Disk space, as fstatfs(2) to `out`. */
  statfs(out: number): number;
  close(): void;
}

/** The layer that takes the changes: a directory whose descriptors the overlay may use itself. */
export interface UpperLayer extends Layer {
  /** An O_PATH descriptor of a directory, owned by the layer; it stays open while seven others are asked for. */
  fd(dir: number): number;
  /** A directory that is not in the layer's tree, by an O_PATH descriptor, which the layer closes with its last reference. */
  adopt(fd: number): number;
  /** After a rename of a directory inside the layer. */
  moved(dir: number, newParent: number, name: number, nameLen: number): void;
}
