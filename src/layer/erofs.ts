// An EROFS image as a layer: its metadata is read where it lies, its data decompressed as it is read.
// Opened by stack/open.ts, used by overlay/ like any other layer; nothing of it is kept but a bounded cache.
// Numbers are those of a kernel mount of the image: st_ino is the nid, file handles are fs/erofs/super.c's.

import type { LateSource } from '../bytes/source.js';
import { METADATA, RAW } from '../erofs/composefs-view.js';
import { EROFS_SUPER_MAGIC_V1 } from '../erofs/format.js';
import type { Inode } from '../erofs/image.js';
import { dirType, ServedImage, type ServedImageOptions } from '../erofs/served.js';
import { S } from '../linux/constants.js';
import { majorOf, minorOf } from '../linux/device.js';
import type { EntryCallback } from '../linux/dirents.js';
import { E } from '../linux/errno.js';
import { Statx, statBuffer } from '../linux/files.js';
import { cstrlen, getBytes, putU64, u8, u16, u32 } from '../linux/memory.js';
import { LISTING } from '../vfs/layout.js';
import { type Content, NOT_HERE, openContent } from './content.js';
import { allocDir, D, get, put, releaseDir } from './dirs.js';
import { pathOfNid } from './find-nid.js';
import type { Layer } from './layer.js';

/** enum fid_type: number as two words, high word first, and a generation, which EROFS leaves 0. */
const FILEID_INO64_GEN = 0x81;
const HANDLE_SIZE = 12;
/** Bytes of struct statx that are filled. */
const STATX_SIZE = 256;

const HI = 0x1_0000_0000;
const nothing = (): void => {};

export interface ErofsLayerOptions extends ServedImageOptions {
  readonly index: number;
  /** The stack's marks are user.overlay.*, and the image's trusted.overlay.*: these are shown so. */
  readonly showsTrustedAsUser: boolean;
  /** Its extra device 1, where content arrives one piece after the other. */
  readonly late?: LateSource;
}

/** Bytes asked for ahead of a file that is read from front to back while it arrives: the first time, and the most. */
const FIRST_AHEAD = 256 * 1024;
const MOST_AHEAD = 4 * 1024 * 1024;

export class ErofsLayer implements Layer {
  readonly index: number;
  readonly label: string;
  readonly root: number;
  /** Both are set once more, when every layer of the stack is open. */
  uuid: Uint8Array;
  key = 0;
  readonly magic = EROFS_SUPER_MAGIC_V1;
  readonly listsNumbers = true;
  readonly contentOnly = true;
  readonly metadataOnly: boolean;
  readonly #served: ServedImage;
  readonly #view: typeof RAW;
  readonly #late: LateSource | undefined;

  constructor(options: ErofsLayerOptions) {
    this.index = options.index;
    this.label = options.label;
    this.#served = new ServedImage(options);
    this.#late = options.late;
    // Nobody but who made it can have put marks into such an image, and without them its files would be all zeros.
    this.metadataOnly = options.image.superblock.composefsVersion !== undefined;
    this.#view = options.showsTrustedAsUser ? METADATA : RAW;
    this.uuid = options.image.superblock.uuid;
    this.root = allocDir(options.index, 0, 0, 0);
    putNid(this.root, options.image.rootNid);
  }

  stat(dir: number, name: number): number {
    // The one method of every lookup: no closure.
    try {
      const nid = this.#nid(dir, name);
      return nid < 0 ? nid : this.#fillStat(this.#served.inode(nid));
    } catch (error) {
      return this.#served.failure(error);
    }
  }

  statDir(dir: number): number {
    return this.#guard(() => this.#fillStat(this.#served.inode(nidOf(dir))));
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
    releaseDir(dir, nothing);
  }

  open(dir: number, name: number): number {
    return this.#guard(() => {
      const nid = this.#nid(dir, name);
      if (nid < 0) return nid;
      const inode = this.#served.inode(nid);
      const type = inode.mode & S.IFMT;
      if (type !== S.IFREG) return type === S.IFLNK ? -E.LOOP : -E.OPNOTSUPP;
      return openContent(this.#content(inode));
    });
  }

  readlink(dir: number, name: number, out: number, size: number): number {
    return this.#guard(() => {
      const nid = this.#nid(dir, name);
      if (nid < 0) return nid;
      return this.#served.readlink(this.#served.inode(nid), out, size);
    });
  }

  getxattr(dir: number, name: number, attr: number, out: number, size: number): number {
    return this.#guard(() => {
      const nid = this.#nid(dir, name);
      if (nid < 0) return nid;
      const attribute = getBytes(attr, cstrlen(attr));
      const stored = this.#view.stored(attribute);
      return this.#served.getxattr(this.#served.inode(nid), stored, out, size);
    });
  }

  listxattr(dir: number, name: number, out: number, size: number): number {
    return this.#guard(() => {
      const nid = this.#nid(dir, name);
      if (nid < 0) return nid;
      const inode = this.#served.inode(nid);
      return this.#served.listxattr(inode, out, size, (name) => this.#view.shown(name, inode.mode));
    });
  }

  list(dir: number, entry: EntryCallback): number {
    return this.#guard(() => {
      const inode = this.#served.inode(nidOf(dir));
      if ((inode.mode & S.IFMT) !== S.IFDIR) return -E.NOTDIR;
      this.#served.image.children(inode, (name, nid, type) => {
        u8.set(name, LISTING);
        u8[LISTING + name.length] = 0;
        this.#served.number(nid);
        entry(LISTING, name.length, this.#served.lo, this.#served.hi, dirType(type));
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

  hasHandle(handle: number): number {
    const k = handle >>> 2;
    if (u32[k + 1] !== FILEID_INO64_GEN || u32[k] !== HANDLE_SIZE) return 0;
    const nid = (u32[k + 2] as number) * HI + (u32[k + 3] as number);
    // Where no inode lies is not to be told from where one does: only one that cannot be read is none.
    try {
      return this.#served.inode(nid).mode & S.IFMT ? 1 : 0;
    } catch {
      return 0;
    }
  }

  pathOf(inoLo: number, inoHi: number): string | undefined {
    const { image } = this.#served;
    // There the number is not the nid.
    if (image.superblock.metaboxNid !== undefined) return undefined;
    try {
      return pathOfNid(image, inoHi * HI + inoLo);
    } catch {
      // Any number may be asked for, also one where no inode lies.
      return undefined;
    }
  }

  statfs(out: number): number {
    const { blockSize, blocks, inodes } = this.#served.image;
    u8.fill(0, out, out + 120);
    putU64(out, EROFS_SUPER_MAGIC_V1);
    putU64(out + 8, blockSize);
    putU64(out + 16, blocks);
    putU64(out + 40, inodes);
    putU64(out + 64, 255);
    putU64(out + 72, blockSize);
    return 0;
  }

  close(): void {
    this.#served.close();
  }

  #guard(work: () => number): number {
    try {
      return work();
    } catch (error) {
      return this.#served.failure(error);
    }
  }

  /** The nid of `name` in `dir`, of `dir` itself for an empty name, or -ENOENT. */
  #nid(dir: number, name: number): number {
    if (u8[name] === 0) return nidOf(dir);
    const inode = this.#served.inode(nidOf(dir));
    if ((inode.mode & S.IFMT) !== S.IFDIR) return -E.NOTDIR;
    return this.#served.image.lookup(inode, u8, name, cstrlen(name)) ?? -E.NOENT;
  }

  #content(inode: Inode): Content {
    if (this.#late !== undefined) return this.#lateContent(inode, this.#late);
    return {
      size: inode.size,
      read: (out, size, offset) => this.#guard(() => this.#served.read(inode, out, size, offset)),
      seek: (offset, hole) => this.#guard(() => this.#served.seek(inode, offset, hole)),
      close: nothing,
    };
  }

  #lateContent(inode: Inode, late: LateSource): Content {
    const wantSoon = (offset: number, length: number): void =>
      this.#wantSoon(inode, late, offset, length);
    /** Where the read behind the last one begins. */
    let next = 0;
    let ahead = 0;
    return {
      size: inode.size,
      read: (out, size, offset) => {
        const n = this.#guard(() => this.#served.read(inode, out, size, offset));
        if (n === NOT_HERE) {
          const goesOn = offset > 0 && offset === next;
          ahead = goesOn ? Math.min(Math.max(2 * ahead, FIRST_AHEAD), MOST_AHEAD) : 0;
          if (goesOn) wantSoon(offset + size, ahead);
        }
        next = offset + size;
        return n;
      },
      seek: (offset, hole) => this.#guard(() => this.#served.seek(inode, offset, hole)),
      isHere: () => this.#guard(() => (this.#isHere(inode, late) ? 1 : 0)) !== 0,
      wantSoon,
      close: nothing,
    };
  }

  #isHere(inode: Inode, late: LateSource): boolean {
    for (const { device, storedAt, length } of this.#served.image.extents(inode)) {
      if (device === 1 && !late.isHere(storedAt, length)) return false;
    }
    return true;
  }

  #wantSoon(inode: Inode, late: LateSource, offset: number, length: number): void {
    const end = offset + length;
    if (offset >= inode.size) return;
    this.#guard(() => {
      for (const extent of this.#served.image.extents(inode, offset)) {
        if (extent.at >= end) break;
        const from = Math.max(offset, extent.at);
        const to = Math.min(end, extent.at + extent.length);
        if (extent.device === 1) late.wantSoon(extent.storedAt + from - extent.at, to - from);
      }
      return 0;
    });
  }

  /** Attributes as the kernel's mount of the image shows them. @returns st_mode. */
  #fillStat(inode: Inode): number {
    const at = statBuffer();
    u8.fill(0, at, at + STATX_SIZE);
    const k = at >>> 2;
    u32[k] = 0x7ff;
    u32[k + (Statx.blksize >>> 2)] = this.#served.image.blockSize;
    u32[k + (Statx.nlink >>> 2)] = inode.nlink;
    u32[k + (Statx.uid >>> 2)] = inode.uid;
    u32[k + (Statx.gid >>> 2)] = inode.gid;
    u16[(at + Statx.mode) >>> 1] = inode.mode;
    this.#served.number(inode.nid);
    u32[k + (Statx.ino >>> 2)] = this.#served.lo;
    u32[k + (Statx.ino >>> 2) + 1] = this.#served.hi;
    putU64(at + Statx.size, inode.size);
    putU64(at + Statx.blocks, inode.blocks512);
    for (const time of [Statx.atime, Statx.ctime, Statx.mtime]) {
      u32[k + (time >>> 2)] = inode.mtime >>> 0;
      u32[k + (time >>> 2) + 1] = Math.floor(inode.mtime / HI) >>> 0;
      u32[k + (time >>> 2) + 2] = inode.mtimeNsec;
    }
    u32[k + (Statx.rdev_major >>> 2)] = majorOf(inode.rdev);
    u32[k + (Statx.rdev_minor >>> 2)] = minorOf(inode.rdev);
    return inode.mode;
  }
}

// A directory record keeps its nid where a directory layer keeps its descriptor, and beside it.
function putNid(dir: number, nid: number): void {
  put(dir, D.fd, nid >>> 0);
  put(dir, D.nidHi, Math.floor(nid / HI));
}

function nidOf(dir: number): number {
  return get(dir, D.nidHi) * HI + get(dir, D.fd);
}
