// One EROFS image as a filesystem: every answer is read from the image's bytes, and nothing is remembered about the kernel.
// Served by stack/server.ts for `varve image mount`; the base of metadata-filesystem.ts and follow-filesystem.ts (composefs).
// Shows what the kernel's own mount of the image shows (fs/erofs of Linux 6.18). Nodeids follow from nids, so FORGET means nothing.

import { NOT_HERE, whenHere } from '../bytes/source.js';
import { type ImageView, RAW } from '../erofs/composefs-view.js';
import { FileType } from '../erofs/format.js';
import type { ErofsImage, Inode } from '../erofs/image.js';
import { dirType, ServedImage, type ServedImageOptions } from '../erofs/served.js';
import { S, SEEK } from '../linux/constants.js';
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
  PARKED,
  type Request,
} from '../vfs/filesystem.js';
import { ReadOnlyFileSystem } from './read-only.js';

const HI = 0x1_0000_0000;
const TRUSTED = 'trusted.';
const ACL = 'system.posix_acl_';
/** FUSE_ROOT_ID; the other nids come after it. */
const ROOT = 1;
const FIRST = 2;

/** Bits of the upper half of a nodeid below the number of its image: nids have 44 bits, which is 512 TiB of metadata. */
const NUMBER_SHIFT = 12;
const NID_HIGH = (1 << NUMBER_SHIFT) - 1;

/** The number of the image that a nodeid is of. */
export const imageNumber = (nodeHi: number): number => nodeHi >>> NUMBER_SHIFT;

export interface ImageFileSystemOptions extends ServedImageOptions {
  /** Absent: the image as it is. */
  readonly view?: ImageView;
  /** Whether callers may read `trusted.*` at all: true as root of the initial user namespace. */
  readonly trusted: boolean;
  /** Whether POSIX ACLs are shown. Absent: true. */
  readonly acl?: boolean;
  /**
   * Which of several images in one filesystem this is, below 2^20: nodeids and inode numbers of different images differ. Absent:
   * the only one, 0.
   */
  readonly number?: number;
}

export class ImageFileSystem extends ReadOnlyFileSystem implements FileSystem {
  readonly acl: boolean;
  readonly listsAhead = true;
  protected readonly served: ServedImage;
  protected readonly image: ErofsImage;
  /** Set by start() or succeed(), before any request. */
  protected host!: Host;
  readonly #view: ImageView;
  readonly #trusted: boolean;
  /** The image's number, as bits of the upper half of nodeids and inode numbers. */
  readonly #high: number;

  constructor(options: ImageFileSystemOptions) {
    super();
    this.#high = ((options.number ?? 0) << NUMBER_SHIFT) >>> 0;
    this.acl = options.acl ?? true;
    this.served = new ServedImage(options);
    this.image = options.image;
    this.#view = options.view ?? RAW;
    this.#trusted = options.trusted;
  }

  start(host: Host): void {
    this.host = host;
  }

  /** Nothing is remembered, so there is nothing to take over. */
  succeed(host: Host): void {
    this.host = host;
  }

  stop(): void {
    this.served.close();
  }

  lookup(r: Request, name: number, nameLen: number, out: number): number {
    try {
      const dir = this.inodeOf(r);
      if ((dir.mode & S.IFMT) !== S.IFDIR) return -E.NOTDIR;
      // "." and ".." come from exported handles; the directory need not hold them.
      if (nameLen === 1 && u8[name] === 0x2e) return this.#entry(dir, out);
      const nid = this.image.lookup(dir, u8, name, nameLen);
      if (nid === undefined) return ABSENT;
      const inode = this.served.inode(nid);
      if (this.#view.hidesWhiteouts && isWhiteout(inode)) return ABSENT;
      return this.#entry(inode, out);
    } catch (error) {
      return this.served.failure(error);
    }
  }

  forget(): void {}

  getattr(r: Request, _hasFh: boolean, _fhLo: number, _fhHi: number, out: number): number {
    try {
      this.#attr(this.inodeOf(r), out);
      return 0;
    } catch (error) {
      return this.served.failure(error);
    }
  }

  readlink(r: Request, out: number, size: number): number {
    try {
      return this.served.readlink(this.inodeOf(r), out, size);
    } catch (error) {
      return this.served.failure(error);
    }
  }

  statfs(_r: Request, out: number): number {
    const { blockSize, blocks, inodes } = this.image;
    u32.fill(0, out >>> 2, (out + KSTATFS_SIZE) >>> 2);
    putU64(out + Kstatfs.blocks, blocks);
    putU64(out + Kstatfs.files, inodes);
    u32[(out + Kstatfs.bsize) >>> 2] = blockSize;
    u32[(out + Kstatfs.namelen) >>> 2] = 255;
    u32[(out + Kstatfs.frsize) >>> 2] = blockSize;
    return KSTATFS_SIZE;
  }

  /** Files have no state here: the kernel opens and closes them itself from then on, and keeps their pages. */
  open(_r: Request, _flags: number, _reply: OpenReply): number {
    return -E.NOSYS;
  }

  read(r: Request, _lo: number, _hi: number, out: number, size: number, offset: number): number {
    try {
      const inode = this.inodeOf(r);
      if ((inode.mode & S.IFMT) !== S.IFREG) return -E.INVAL;
      return this.served.read(inode, out, size, offset);
    } catch (error) {
      const failure = this.served.failure(error);
      return failure === NOT_HERE ? this.#park() : failure;
    }
  }

  /** The current request is handled again when the content is here that it has just missed. */
  #park(): number {
    let forget = (): void => {};
    const saved = this.host.defer(() => forget());
    forget = whenHere((result) => {
      if (result < 0) this.host.refuse(saved, result);
      else this.host.resume(saved);
    });
    return PARKED;
  }

  lseek(r: Request, _lo: number, _hi: number, offset: number, whence: number): number {
    try {
      if (whence !== SEEK.DATA && whence !== SEEK.HOLE) return -E.INVAL;
      return this.served.seek(this.inodeOf(r), offset, whence === SEEK.HOLE);
    } catch (error) {
      return this.served.failure(error);
    }
  }

  opendir(_r: Request, _flags: number, reply: OpenReply): number {
    if (this.host.noOpendir) return -E.NOSYS;
    reply.flags = OPEN.CACHE_DIR | OPEN.KEEP_CACHE;
    return 0;
  }

  readdir(r: Request, _lo: number, _hi: number, offset: number, sink: DirSink): number {
    try {
      const dir = this.inodeOf(r);
      if ((dir.mode & S.IFMT) !== S.IFDIR) return -E.NOTDIR;
      const { image } = this;
      const hides = this.#view.hidesWhiteouts;
      image.visit(
        dir,
        (bytes, start, end, nid, type, next) => {
          const length = end - start;
          if (!sink.fits(length)) return false;
          if (hides && type === FileType.CHRDEV && isWhiteout(image.inode(nid))) return true;
          if (sink.plus && !areDots(bytes, start, length)) {
            this.#entry(image.inode(nid), sink.entry);
          }
          this.served.number(nid);
          const inoHi = (this.served.hi | this.#high) >>> 0;
          sink.add(this.served.lo, inoHi, next, dirType(type), start, length, bytes);
          return true;
        },
        offset,
      );
      return 0;
    } catch (error) {
      return this.served.failure(error);
    }
  }

  getxattr(r: Request, name: number, nameLen: number, out: number, size: number): number {
    try {
      const shown = getBytes(name, nameLen);
      if (!this.acl && shown.startsWith(ACL)) return -E.OPNOTSUPP;
      if (shown.startsWith(TRUSTED) && !this.#readsTrusted(r)) return -E.NODATA;
      return this.served.getxattr(this.inodeOf(r), this.#view.stored(shown), out, size);
    } catch (error) {
      return this.served.failure(error);
    }
  }

  listxattr(r: Request, out: number, size: number): number {
    try {
      const inode = this.inodeOf(r);
      const trusted = this.#readsTrusted(r);
      return this.served.listxattr(inode, out, size, (stored) => {
        const name = this.#view.shown(stored, inode.mode);
        if (name === undefined || (!trusted && name.startsWith(TRUSTED))) return undefined;
        return !this.acl && name.startsWith(ACL) ? undefined : name;
      });
    } catch (error) {
      return this.served.failure(error);
    }
  }

  /** The kernel answers for who may not read them (ENODATA); a name that is listed all the same breaks a copy-up. */
  #readsTrusted(r: Request): boolean {
    return this.#trusted && r.uid === 0;
  }

  /** @throws ErofsError for a nodeid that the image has nothing at. */
  protected inodeOf(r: Request): Inode {
    const node = (r.nodeHi & NID_HIGH) * HI + r.nodeLo;
    return this.served.inode(node === ROOT ? this.image.rootNid : node - FIRST);
  }

  /** The ENTRY record of the root, or an errno. */
  rootEntry(out: number): number {
    try {
      return this.#entry(this.served.inode(this.image.rootNid), out);
    } catch (error) {
      return this.served.failure(error);
    }
  }

  /** The ENTRY record of an inode. */
  #entry(inode: Inode, out: number): number {
    const node = inode.nid === this.image.rootNid ? ROOT : inode.nid + FIRST;
    const k = out >>> 2;
    u32[k] = node >>> 0;
    u32[k + 1] = (Math.floor(node / HI) | this.#high) >>> 0;
    u32[k + 2] = 0;
    u32[k + 3] = 0;
    this.#attr(inode, out + Entry.attr);
    return 0;
  }

  /** The ATTR record of an inode; EROFS has one time for all three. */
  #attr(inode: Inode, out: number): void {
    const k = out >>> 2;
    this.served.number(inode.nid);
    u32[k] = this.served.lo;
    u32[k + 1] = (this.served.hi | this.#high) >>> 0;
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
    u32[k + (Attr.blksize >>> 2)] = this.image.blockSize;
    u32[k + (Attr.flags >>> 2)] = 0;
  }
}

/** What overlayfs takes for "nothing here". */
function isWhiteout(inode: Inode): boolean {
  return (inode.mode & S.IFMT) === S.IFCHR && inode.rdev === 0;
}

/** Whether a name is "." or "..". */
function areDots(bytes: Uint8Array, start: number, length: number): boolean {
  return bytes[start] === 0x2e && (length === 1 || (length === 2 && bytes[start + 1] === 0x2e));
}
