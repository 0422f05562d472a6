// An EROFS image as a layer: its metadata is read where it lies, its data decompressed as it is read.
// Opened by stack/open.ts, used by overlay/ like any other layer; nothing of it is kept but a bounded cache.
// Numbers are those of a kernel mount of the image: st_ino is the nid, file handles are fs/erofs/super.c's.

import type { ErofsImage, Inode } from '../erofs/image.js';
import { DT, S } from '../linux/constants.js';
import type { EntryCallback } from '../linux/dirents.js';
import { E } from '../linux/errno.js';
import { Statx, statBuffer } from '../linux/files.js';
import { cstrlen, getBytes, putU64, u8, u16, u32 } from '../linux/memory.js';
import { LISTING } from '../vfs/layout.js';

import { type Content, openContent } from './content.js';
import { allocDir, D, get, put, releaseDir } from './dirs.js';
import type { Layer } from './layer.js';

/** f_type of an EROFS mount. */
const EROFS_MAGIC = 0xe0f5e1e2;
/** enum fid_type: number as two words, high word first, and a generation, which EROFS leaves 0. */
const FILEID_INO64_GEN = 0x81;
const HANDLE_SIZE = 12;
/** Bytes of struct statx that are filled. */
const STATX_SIZE = 256;
/** Inodes kept decoded. */
const INODES = 4096;

const HI = 0x1_0000_0000;
const NO_NAME = (): void => {};

export interface ErofsLayerOptions {
  readonly index: number;
  readonly label: string;
  readonly image: ErofsImage;
  readonly fsId: number;
  /** What tells this image from others in the stack. */
  readonly device: string;
  /** Receives a line for what is wrong with the image; the caller of the mount gets EUCLEAN. */
  readonly log: (line: string) => void;
  /** Closes what the image reads from. */
  readonly close: () => void;
}

export class ErofsLayer implements Layer {
  readonly index: number;
  readonly label: string;
  readonly root: number;
  readonly fsId: number;
  readonly device: string;
  readonly uuid: Uint8Array;
  readonly magic = EROFS_MAGIC;
  readonly #image: ErofsImage;
  readonly #log: (line: string) => void;
  readonly #close: () => void;
  readonly #inodes = new Map<number, Inode>();

  constructor(options: ErofsLayerOptions) {
    this.index = options.index;
    this.label = options.label;
    this.fsId = options.fsId;
    this.device = options.device;
    this.#image = options.image;
    this.#log = options.log;
    this.#close = options.close;
    this.uuid = options.image.superblock.uuid;
    this.root = allocDir(options.index, 0, 0, 0);
    putNid(this.root, options.image.rootNid);
  }

  stat(dir: number, name: number): number {
    return this.#guard(() => {
      const nid = this.#nid(dir, name);
      return nid < 0 ? nid : this.#fillStat(this.#inode(nid));
    });
  }

  statDir(dir: number): number {
    return this.#guard(() => this.#fillStat(this.#inode(nidOf(dir))));
  }

  enter(dir: number, name: number, nameLen: number): number {
    const record = allocDir(this.index, dir, name, nameLen);
    if (record === 0) return 0;
    const nid = this.#guard(() => this.#nid(dir, name));
    // What is wrong shows when the directory is used: a nid of 0 lies before the metadata.
    putNid(record, Math.max(nid, 0));
    return record;
  }

  release(dir: number): void {
    releaseDir(dir, NO_NAME);
  }

  open(dir: number, name: number): number {
    return this.#guard(() => {
      const nid = this.#nid(dir, name);
      if (nid < 0) return nid;
      const inode = this.#inode(nid);
      const type = inode.mode & S.IFMT;
      if (type !== S.IFREG) return type === S.IFLNK ? -E.LOOP : -E.OPNOTSUPP;
      return openContent(this.#content(inode));
    });
  }

  openPath(): number {
    return -E.OPNOTSUPP;
  }

  readlink(dir: number, name: number, out: number, size: number): number {
    return this.#guard(() => {
      const nid = this.#nid(dir, name);
      if (nid < 0) return nid;
      const inode = this.#inode(nid);
      if ((inode.mode & S.IFMT) !== S.IFLNK) return -E.INVAL;
      return this.#image.read(inode, u8.subarray(out, out + Math.min(size, inode.size)), 0);
    });
  }

  getxattr(dir: number, name: number, attr: number, out: number, size: number): number {
    return this.#guard(() => {
      const nid = this.#nid(dir, name);
      if (nid < 0) return nid;
      const value = this.#image.getxattr(this.#inode(nid), getBytes(attr, cstrlen(attr)));
      if (value === undefined) return -E.NODATA;
      if (size === 0) return value.length;
      if (value.length > size) return -E.RANGE;
      u8.set(value, out);
      return value.length;
    });
  }

  listxattr(dir: number, name: number, out: number, size: number): number {
    return this.#guard(() => {
      const nid = this.#nid(dir, name);
      if (nid < 0) return nid;
      let length = 0;
      for (const attr of this.#image.listxattr(this.#inode(nid))) {
        if (size > 0) {
          if (length + attr.length + 1 > size) return -E.RANGE;
          for (let i = 0; i < attr.length; i++) u8[out + length + i] = attr.charCodeAt(i);
          u8[out + length + attr.length] = 0;
        }
        length += attr.length + 1;
      }
      return length;
    });
  }

  list(dir: number, entry: EntryCallback): number {
    return this.#guard(() => {
      const inode = this.#inode(nidOf(dir));
      if ((inode.mode & S.IFMT) !== S.IFDIR) return -E.NOTDIR;
      this.#image.list(inode, (name, nid, type) => {
        if (name[0] === 0x2e && (name.length === 1 || (name.length === 2 && name[1] === 0x2e))) {
          return;
        }
        u8.set(name, LISTING);
        u8[LISTING + name.length] = 0;
        this.#number(nid);
        entry(LISTING, name.length, ino.lo, ino.hi, DT_OF[type] ?? DT.UNKNOWN);
      });
      return 0;
    });
  }

  handle(dir: number, name: number, out: number): number {
    return this.#guard(() => {
      const nid = this.#nid(dir, name);
      if (nid < 0) return nid;
      const k = out >>> 2;
      u32[k] = HANDLE_SIZE;
      u32[k + 1] = FILEID_INO64_GEN;
      u32[k + 2] = Math.floor(nid / HI);
      u32[k + 3] = nid >>> 0;
      u32[k + 4] = 0;
      return HANDLE_SIZE;
    });
  }

  statfs(out: number): number {
    const { blockSize, blocks, inodes } = this.#image;
    u8.fill(0, out, out + 120);
    putU64(out, EROFS_MAGIC);
    putU64(out + 8, blockSize);
    putU64(out + 16, blocks);
    putU64(out + 40, inodes);
    putU64(out + 64, 255);
    putU64(out + 72, blockSize);
    return 0;
  }

  close(): void {
    this.#close();
  }

  /** What a malformed image throws becomes EUCLEAN, as the kernel's mount answers, and a line in the log. */
  #guard(work: () => number): number {
    try {
      return work();
    } catch (error) {
      return this.#failure(error);
    }
  }

  #failure(error: unknown): number {
    this.#log(`${this.label}: ${error instanceof Error ? error.message : String(error)}`);
    const unsupported = (error as { unsupported?: unknown }).unsupported === true;
    return unsupported ? -E.OPNOTSUPP : -E.UCLEAN;
  }

  /** The nid of `name` in `dir`, of `dir` itself for an empty name, or -ENOENT. */
  #nid(dir: number, name: number): number {
    if (u8[name] === 0) return nidOf(dir);
    const inode = this.#inode(nidOf(dir));
    if ((inode.mode & S.IFMT) !== S.IFDIR) return -E.NOTDIR;
    return this.#image.lookup(inode, u8, name, cstrlen(name)) ?? -E.NOENT;
  }

  /** st_ino of a nid, to `ino`. */
  #number(nid: number): void {
    if (this.#image.superblock.metaboxNid === undefined) {
      ino.lo = nid >>> 0;
      ino.hi = Math.floor(nid / HI);
    } else {
      const number = this.#image.ino(nid);
      ino.lo = Number(number & 0xffffffffn);
      ino.hi = Number(number >> 32n);
    }
  }

  #inode(nid: number): Inode {
    const known = this.#inodes.get(nid);
    if (known !== undefined) return known;
    const inode = this.#image.inode(nid);
    if (this.#inodes.size >= INODES) this.#inodes.clear();
    this.#inodes.set(nid, inode);
    return inode;
  }

  #content(inode: Inode): Content {
    const image = this.#image;
    const failed = (error: unknown): number => this.#failure(error);
    return {
      size: inode.size,
      read(out, size, offset) {
        if (offset >= inode.size) return 0;
        try {
          const length = Math.min(size, inode.size - offset);
          return image.read(inode, u8.subarray(out, out + length), offset);
        } catch (error) {
          return failed(error);
        }
      },
      seek(offset, hole) {
        let at = offset;
        for (const extent of image.extents(inode, offset)) {
          if (extent.at + extent.length <= at) continue;
          if (hole && extent.at <= at) at = extent.at + extent.length;
          else if (hole) return at;
          else return Math.max(at, extent.at);
        }
        return hole ? Math.min(at, inode.size) : -E.NXIO;
      },
      close: NO_NAME,
    };
  }

  /** Attributes as the kernel's mount of the image shows them. @returns st_mode. */
  #fillStat(inode: Inode): number {
    const at = statBuffer();
    u8.fill(0, at, at + STATX_SIZE);
    const k = at >>> 2;
    u32[k] = 0x7ff;
    u32[k + (Statx.blksize >>> 2)] = this.#image.blockSize;
    u32[k + (Statx.nlink >>> 2)] = inode.nlink;
    u32[k + (Statx.uid >>> 2)] = inode.uid;
    u32[k + (Statx.gid >>> 2)] = inode.gid;
    u16[(at + Statx.mode) >>> 1] = inode.mode;
    this.#number(inode.nid);
    u32[k + (Statx.ino >>> 2)] = ino.lo;
    u32[k + (Statx.ino >>> 2) + 1] = ino.hi;
    putU64(at + Statx.size, inode.size);
    putU64(at + Statx.blocks, inode.blocks512);
    for (const time of [Statx.atime, Statx.ctime, Statx.mtime]) {
      u32[k + (time >>> 2)] = inode.mtime >>> 0;
      u32[k + (time >>> 2) + 1] = Math.floor(inode.mtime / HI) >>> 0;
      u32[k + (time >>> 2) + 2] = inode.mtimeNsec;
    }
    const { rdev } = inode;
    u32[k + (Statx.rdev_major >>> 2)] = (rdev >>> 8) & 0xfff;
    u32[k + (Statx.rdev_minor >>> 2)] = (rdev & 0xff) | ((rdev >>> 12) & 0xfff00);
    return inode.mode;
  }
}

/** What #number() found. */
const ino = { lo: 0, hi: 0 };

/** d_type of a dirent's file_type. */
const DT_OF = [DT.UNKNOWN, DT.REG, DT.DIR, DT.CHR, DT.BLK, DT.FIFO, DT.SOCK, DT.LNK];

// A directory record keeps its nid where a directory layer keeps its descriptor, and beside it.
function putNid(dir: number, nid: number): void {
  put(dir, D.fd, nid >>> 0);
  put(dir, D.nidHi, Math.floor(nid / HI));
}

function nidOf(dir: number): number {
  return get(dir, D.nidHi) * HI + get(dir, D.fd);
}
