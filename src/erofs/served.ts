// An image as whoever serves it needs it: answers laid into the arena, what is malformed as an errno and a line in the log.
// Used by layer/erofs.ts (one of several layers) and imagefs/ (one image alone); the reading itself is image.ts's.
// Follows: what the kernel's mount of the image answers (fs/erofs of Linux 6.18).

import { NOT_HERE, NotHereError } from '../bytes/source.js';
import { DT, S } from '../linux/constants.js';
import { E } from '../linux/errno.js';
import { u8 } from '../linux/memory.js';
import type { ErofsImage, Inode } from './image.js';

/** Inodes kept decoded, each at the place that its nid's low bits name. A power of two. */
const INODES = 8192;
const HI = 0x1_0000_0000;

/** d_type of a dirent's file_type. */
const DT_OF = [DT.UNKNOWN, DT.REG, DT.DIR, DT.CHR, DT.BLK, DT.FIFO, DT.SOCK, DT.LNK];

/** @param type as an image's directory has it. @returns one of DT. */
export function dirType(type: number): number {
  return DT_OF[type] ?? DT.UNKNOWN;
}

export interface ServedImageOptions {
  readonly image: ErofsImage;
  /** What to call it in the log. */
  readonly label: string;
  /** Receives a line for what is wrong with the image; the caller of the mount gets EUCLEAN. */
  readonly log: (line: string) => void;
  /** Closes what the image reads from. */
  readonly close: () => void;
}

/** Methods throw what the image throws, which failure() turns into the answer; results are >= 0 or -errno. */
export class ServedImage {
  readonly image: ErofsImage;
  /** Halves of the last number(). */
  lo = 0;
  hi = 0;
  readonly #options: ServedImageOptions;
  readonly #inodes: (Inode | undefined)[] = new Array(INODES).fill(undefined);

  constructor(options: ServedImageOptions) {
    this.image = options.image;
    this.#options = options;
  }

  /** An inode that will be asked for again; listings take image.inode(). */
  inode(nid: number): Inode {
    const place = nid & (INODES - 1);
    const known = this.#inodes[place];
    if (known?.nid === nid) return known;
    const inode = this.image.inode(nid);
    this.#inodes[place] = inode;
    return inode;
  }

  /** st_ino of a nid, to `lo` and `hi`. */
  number(nid: number): void {
    if (this.image.superblock.metaboxNid === undefined) {
      this.lo = nid >>> 0;
      this.hi = Math.floor(nid / HI);
    } else {
      const ino = this.image.ino(nid);
      this.lo = Number(ino & 0xffffffffn);
      this.hi = Number(ino >> 32n);
    }
  }

  /** As pread(2), to arena offset `out`; short only at the end. */
  read(inode: Inode, out: number, size: number, offset: number): number {
    if (offset >= inode.size) return 0;
    const length = Math.min(size, inode.size - offset);
    return this.image.read(inode, u8.subarray(out, out + length), offset);
  }

  /** As lseek(2) with SEEK_HOLE or SEEK_DATA. */
  seek(inode: Inode, offset: number, hole: boolean): number {
    if (offset >= inode.size) return -E.NXIO;
    let at = offset;
    for (const extent of this.image.extents(inode, offset)) {
      const end = extent.at + extent.length;
      if (end <= at) continue;
      if (!hole) return Math.max(at, extent.at);
      if (extent.at > at) return at;
      at = end;
    }
    return hole ? Math.min(at, inode.size) : -E.NXIO;
  }

  readlink(inode: Inode, out: number, size: number): number {
    if ((inode.mode & S.IFMT) !== S.IFLNK) return -E.INVAL;
    return this.image.read(inode, u8.subarray(out, out + Math.min(size, inode.size)), 0);
  }

  /** As getxattr(2). @param name latin1. */
  getxattr(inode: Inode, name: string, out: number, size: number): number {
    const value = this.image.getxattr(inode, name);
    if (value === undefined) return -E.NODATA;
    if (size === 0) return value.length;
    if (value.length > size) return -E.RANGE;
    u8.set(value, out);
    return value.length;
  }

  /** As listxattr(2). @param show gives the name that is listed, undefined: none. */
  listxattr(
    inode: Inode,
    out: number,
    size: number,
    show: (name: string) => string | undefined,
  ): number {
    let length = 0;
    for (const stored of this.image.listxattr(inode)) {
      const name = show(stored);
      if (name === undefined) continue;
      if (size > 0) {
        if (length + name.length + 1 > size) return -E.RANGE;
        for (let i = 0; i < name.length; i++) u8[out + length + i] = name.charCodeAt(i);
        u8[out + length + name.length] = 0;
      }
      length += name.length + 1;
    }
    return length;
  }

  /**
   * What a malformed image throws becomes EUCLEAN, as the kernel's mount answers, and a line in the log; NOT_HERE for content
   * that somebody may wait for (whenHere() of bytes/source.ts).
   */
  failure(error: unknown): number {
    if (error instanceof NotHereError) return NOT_HERE;
    const { label, log } = this.#options;
    log(`${label}: ${error instanceof Error ? error.message : String(error)}`);
    const unsupported = (error as { unsupported?: unknown }).unsupported === true;
    return unsupported ? -E.OPNOTSUPP : -E.UCLEAN;
  }

  close(): void {
    this.#options.close();
  }
}
