// One EROFS image as a filesystem, as it is: every answer is read from the image's bytes, and nothing is remembered about the kernel.
// Served by stack/server.ts for `varve image mount`; a stack of layers is overlay/'s, which interprets whiteouts and marks.
// Shows what the kernel's own mount of the image shows (fs/erofs of Linux 6.18). Nodeids follow from nids, so FORGET means nothing.

import type { ErofsImage, Inode } from '../erofs/image.js';
import { DT, S, SEEK } from '../linux/constants.js';
import { E } from '../linux/errno.js';
import { getBytes, putU64, u8, u32 } from '../linux/memory.js';
import { Attr, Entry, KSTATFS_SIZE, Kstatfs } from '../vfs/attr.js';
import {
  ABSENT,
  type DirSink,
  type FileSystem,
  type Host,
  OPEN,
  type OpenReply,
  type Request,
} from '../vfs/filesystem.js';
import { LISTING } from '../vfs/layout.js';

const HI = 0x1_0000_0000;
/** FUSE_ROOT_ID; the other nids come after it. */
const ROOT = 1;
const FIRST = 2;
/** Inodes kept decoded. */
const INODES = 8192;

/** d_type of a dirent's file_type. */
const DT_OF = [DT.UNKNOWN, DT.REG, DT.DIR, DT.CHR, DT.BLK, DT.FIFO, DT.SOCK, DT.LNK];

export interface ImageFileSystemOptions {
  readonly image: ErofsImage;
  /** What to call it in the log. */
  readonly label: string;
  readonly log: (line: string) => void;
  /** Closes what the image reads from. */
  readonly close: () => void;
}

export class ImageFileSystem implements FileSystem {
  readonly #image: ErofsImage;
  readonly #label: string;
  readonly #log: (line: string) => void;
  readonly #close: () => void;
  readonly #inodes = new Map<number, Inode>();
  #host!: Host;

  constructor(options: ImageFileSystemOptions) {
    this.#image = options.image;
    this.#label = options.label;
    this.#log = options.log;
    this.#close = options.close;
  }

  start(host: Host): void {
    this.#host = host;
  }

  stop(): void {
    this.#close();
  }

  lookup(r: Request, name: number, nameLen: number, out: number): number {
    try {
      const dir = this.#inodeOf(r);
      if ((dir.mode & S.IFMT) !== S.IFDIR) return -E.NOTDIR;
      // "." and ".." come from exported handles; the directory need not hold them.
      if (nameLen === 1 && u8[name] === 0x2e) return this.#entry(dir, out);
      const nid = this.#image.lookup(dir, u8, name, nameLen);
      return nid === undefined ? ABSENT : this.#entry(this.#inode(nid), out);
    } catch (error) {
      return this.#failure(error);
    }
  }

  forget(): void {}

  getattr(r: Request, _hasFh: boolean, _fhLo: number, _fhHi: number, out: number): number {
    try {
      this.#attr(this.#inodeOf(r), out);
      return 0;
    } catch (error) {
      return this.#failure(error);
    }
  }

  readlink(r: Request, out: number, size: number): number {
    try {
      const inode = this.#inodeOf(r);
      if ((inode.mode & S.IFMT) !== S.IFLNK) return -E.INVAL;
      return this.#image.read(inode, u8.subarray(out, out + Math.min(size, inode.size)), 0);
    } catch (error) {
      return this.#failure(error);
    }
  }

  statfs(_r: Request, out: number): number {
    const { blockSize, blocks, inodes } = this.#image;
    u32.fill(0, out >>> 2, (out + KSTATFS_SIZE) >>> 2);
    putU64(out + Kstatfs.blocks, blocks);
    putU64(out + Kstatfs.files, inodes);
    u32[(out + Kstatfs.bsize) >>> 2] = blockSize;
    u32[(out + Kstatfs.namelen) >>> 2] = 255;
    u32[(out + Kstatfs.frsize) >>> 2] = blockSize;
    return KSTATFS_SIZE;
  }

  access(): number {
    // Permissions are the kernel's to check (default_permissions).
    return 0;
  }

  /** Files have no state here: the kernel opens and closes them itself from then on, and keeps their pages. */
  open(): number {
    return -E.NOSYS;
  }

  read(r: Request, _lo: number, _hi: number, out: number, size: number, offset: number): number {
    try {
      const inode = this.#inodeOf(r);
      if ((inode.mode & S.IFMT) !== S.IFREG) return -E.INVAL;
      if (offset >= inode.size) return 0;
      const length = Math.min(size, inode.size - offset);
      return this.#image.read(inode, u8.subarray(out, out + length), offset);
    } catch (error) {
      return this.#failure(error);
    }
  }

  flush(): number {
    return -E.NOSYS;
  }

  release(): number {
    return 0;
  }

  lseek(r: Request, _lo: number, _hi: number, offset: number, whence: number): number {
    try {
      const inode = this.#inodeOf(r);
      if (whence !== SEEK.DATA && whence !== SEEK.HOLE) return -E.INVAL;
      if (offset >= inode.size) return -E.NXIO;
      return this.#seek(inode, offset, whence === SEEK.HOLE);
    } catch (error) {
      return this.#failure(error);
    }
  }

  #seek(inode: Inode, offset: number, hole: boolean): number {
    let at = offset;
    for (const extent of this.#image.extents(inode, offset)) {
      const end = extent.at + extent.length;
      if (end <= at) continue;
      if (!hole) return Math.max(at, extent.at);
      if (extent.at > at) return at;
      at = end;
    }
    return hole ? Math.min(at, inode.size) : -E.NXIO;
  }

  opendir(_r: Request, _flags: number, reply: OpenReply): number {
    if (this.#host.noOpendir) return -E.NOSYS;
    reply.flags = OPEN.CACHE_DIR | OPEN.KEEP_CACHE;
    return 0;
  }

  readdir(r: Request, _lo: number, _hi: number, offset: number, sink: DirSink): number {
    try {
      const dir = this.#inodeOf(r);
      if ((dir.mode & S.IFMT) !== S.IFDIR) return -E.NOTDIR;
      const image = this.#image;
      image.list(
        dir,
        (name, nid, type, next) => {
          const { length } = name;
          if (!sink.fits(length)) return false;
          u8.set(name, LISTING);
          if (sink.plus && !isDots(name)) this.#entry(image.inode(nid), sink.entry);
          const number = this.#number(nid);
          sink.add(
            number >>> 0,
            Math.floor(number / HI),
            next,
            DT_OF[type] ?? DT.UNKNOWN,
            LISTING,
            length,
          );
          return true;
        },
        offset,
      );
      return 0;
    } catch (error) {
      return this.#failure(error);
    }
  }

  releasedir(): number {
    return 0;
  }

  fsync(): number {
    return 0;
  }

  fsyncdir(): number {
    return 0;
  }

  syncfs(): number {
    return 0;
  }

  getxattr(r: Request, name: number, nameLen: number, out: number, size: number): number {
    try {
      const value = this.#image.getxattr(this.#inodeOf(r), getBytes(name, nameLen));
      if (value === undefined) return -E.NODATA;
      if (size === 0) return value.length;
      if (value.length > size) return -E.RANGE;
      u8.set(value, out);
      return value.length;
    } catch (error) {
      return this.#failure(error);
    }
  }

  listxattr(r: Request, out: number, size: number): number {
    try {
      let length = 0;
      for (const name of this.#image.listxattr(this.#inodeOf(r))) {
        // As the kernel's filesystems: for who may read them.
        if (r.uid !== 0 && name.startsWith('trusted.')) continue;
        if (size > 0) {
          if (length + name.length + 1 > size) return -E.RANGE;
          for (let i = 0; i < name.length; i++) u8[out + length + i] = name.charCodeAt(i);
          u8[out + length + name.length] = 0;
        }
        length += name.length + 1;
      }
      return length;
    } catch (error) {
      return this.#failure(error);
    }
  }

  setattr(): number {
    return -E.ROFS;
  }
  mknod(): number {
    return -E.ROFS;
  }
  mkdir(): number {
    return -E.ROFS;
  }
  symlink(): number {
    return -E.ROFS;
  }
  link(): number {
    return -E.ROFS;
  }
  unlink(): number {
    return -E.ROFS;
  }
  rmdir(): number {
    return -E.ROFS;
  }
  rename(): number {
    return -E.ROFS;
  }
  create(): number {
    return -E.ROFS;
  }
  tmpfile(): number {
    return -E.ROFS;
  }
  write(): number {
    return -E.ROFS;
  }
  fallocate(): number {
    return -E.ROFS;
  }
  setxattr(): number {
    return -E.ROFS;
  }
  removexattr(): number {
    return -E.ROFS;
  }
  /** From here to a file elsewhere: the kernel reads and writes. */
  copyFileRange(): number {
    return -E.OPNOTSUPP;
  }

  #inodeOf(r: Request): Inode {
    const node = r.nodeHi * HI + r.nodeLo;
    return this.#inode(node === ROOT ? this.#image.rootNid : node - FIRST);
  }

  #inode(nid: number): Inode {
    const known = this.#inodes.get(nid);
    if (known !== undefined) return known;
    const inode = this.#image.inode(nid);
    if (this.#inodes.size >= INODES) this.#inodes.clear();
    this.#inodes.set(nid, inode);
    return inode;
  }

  /** st_ino. */
  #number(nid: number): number {
    const { superblock } = this.#image;
    return superblock.metaboxNid === undefined ? nid : Number(this.#image.ino(nid));
  }

  /** The ENTRY record of an inode. */
  #entry(inode: Inode, out: number): number {
    const node = inode.nid === this.#image.rootNid ? ROOT : inode.nid + FIRST;
    const k = out >>> 2;
    u32[k] = node >>> 0;
    u32[k + 1] = Math.floor(node / HI);
    u32[k + 2] = 0;
    u32[k + 3] = 0;
    this.#attr(inode, out + Entry.attr);
    return 0;
  }

  /** The ATTR record of an inode; EROFS has one time for all three. */
  #attr(inode: Inode, out: number): void {
    const k = out >>> 2;
    const number = this.#number(inode.nid);
    u32[k] = number >>> 0;
    u32[k + 1] = Math.floor(number / HI);
    const { size, blocks512, mtime, mtimeNsec } = inode;
    u32[k + (Attr.size >>> 2)] = size >>> 0;
    u32[k + (Attr.size >>> 2) + 1] = Math.floor(size / HI);
    u32[k + (Attr.blocks >>> 2)] = blocks512 >>> 0;
    u32[k + (Attr.blocks >>> 2) + 1] = Math.floor(blocks512 / HI);
    const seconds = mtime >>> 0;
    const upper = Math.floor(mtime / HI) >>> 0;
    for (let i = 0; i < 6; i += 2) {
      u32[k + (Attr.atime >>> 2) + i] = seconds;
      u32[k + (Attr.atime >>> 2) + i + 1] = upper;
    }
    for (let i = 0; i < 3; i++) u32[k + (Attr.atimensec >>> 2) + i] = mtimeNsec;
    u32[k + (Attr.mode >>> 2)] = inode.mode;
    u32[k + (Attr.nlink >>> 2)] = inode.nlink;
    u32[k + (Attr.uid >>> 2)] = inode.uid;
    u32[k + (Attr.gid >>> 2)] = inode.gid;
    u32[k + (Attr.rdev >>> 2)] = inode.rdev;
    u32[k + (Attr.blksize >>> 2)] = this.#image.blockSize;
    u32[k + (Attr.flags >>> 2)] = 0;
  }

  /** What a malformed image throws becomes EUCLEAN, as the kernel's mount answers, and a line in the log. */
  #failure(error: unknown): number {
    this.#log(`${this.#label}: ${error instanceof Error ? error.message : String(error)}`);
    const unsupported = (error as { unsupported?: unknown }).unsupported === true;
    return unsupported ? -E.OPNOTSUPP : -E.UCLEAN;
  }
}

function isDots(name: Uint8Array): boolean {
  return name[0] === 0x2e && (name.length === 1 || (name.length === 2 && name[1] === 0x2e));
}
