// A composefs image with its content: the finished tree, files read from the objects of a store.
// Served by stack/server.ts for whoever may not have the kernel do it; every object is compared with its digest first.
// Shows what kernel EROFS and overlayfs show of the image together (Linux 6.18), read-only.

import { FOLLOW } from '../erofs/composefs-view.js';
import type { Inode } from '../erofs/image.js';
import { O, S, SEEK } from '../linux/constants.js';
import { E } from '../linux/errno.js';
import { lseek, pread } from '../linux/files.js';
import type { Objects } from '../store/objects.js';
import { type Host, OPEN, type OpenReply, PARKED, type Request } from '../vfs/filesystem.js';
import { objectOf } from './external.js';
import { ImageFileSystem, type ImageFileSystemOptions } from './image-filesystem.js';
import { type OpenObject, OpenObjects } from './open-objects.js';
import { PathSearch } from './path-search.js';

export interface FollowOptions extends Omit<ImageFileSystemOptions, 'view'> {
  /** Where objects are, first looked in first; closed with the filesystem. */
  readonly folders: readonly Objects[];
  /** Compare each object with its digest before it is read. */
  readonly verify: boolean;
}

/** Inodes of which the kernel was given the first bytes lately. A power of two. */
const STORED = 8192;
/** Milliseconds in which the same is said of a file once: a program that tries again and again shall not fill the log. */
const QUIET = 1000;
const MOST_TOLD = 1000;

export class FollowFileSystem extends ImageFileSystem {
  readonly #objects: OpenObjects;
  readonly #log: (line: string) => void;
  readonly #paths: PathSearch;
  /** By the low bits of the nid; the kernel keeps pages over opens, so once is enough. */
  readonly #stored = new Float64Array(STORED).fill(-1);

  /** What was said of files, and when, by nid. */
  readonly #told = new Map<number, { readonly why: string; readonly at: number }>();

  constructor(options: FollowOptions) {
    super({ ...options, view: FOLLOW });
    this.#objects = new OpenObjects(options.folders, options.verify);
    this.#log = options.log;
    this.#paths = new PathSearch(options.image);
  }

  override start(host: Host): void {
    super.start(host);
    this.#objects.start(host);
  }

  override succeed(host: Host): void {
    super.succeed(host);
    this.#objects.succeed(host);
  }

  override stop(): void {
    this.#objects.close();
    super.stop();
  }

  override open(r: Request, flags: number, reply: OpenReply): number {
    try {
      if ((flags & O.ACCMODE) !== O.RDONLY) return -E.ROFS;
      const inode = this.inodeOf(r);
      if ((inode.mode & S.IFMT) === S.IFDIR) return -E.ISDIR;
      const hex = objectOf(this.image, inode);
      if (hex === undefined) {
        reply.flags = OPEN.KEEP_CACHE | OPEN.NOFLUSH;
        return 0;
      }
      // A practised request (fuse/rehearse.ts) opens nothing: it may not be parked, and nobody wants to hear what it finds.
      if (r.uniqueLo === 0 && r.uniqueHi === 0) return -E.AGAIN;
      if (typeof hex !== 'string') return this.#refuse(inode, hex.why);
      const object = this.#objects.use(r, hex, inode.size);
      if (object === 'parked') return PARKED;
      if ('why' in object) return this.#refuse(inode, object.why);
      this.#answer(r, inode, object, reply);
      return 0;
    } catch (error) {
      return this.served.failure(error);
    }
  }

  /** Past this server where the kernel may; else by its page cache, whose pages are right for ever. */
  #answer(r: Request, inode: Inode, object: OpenObject, reply: OpenReply): void {
    reply.fhLo = object.slot;
    reply.fhHi = object.generation;
    const backing = this.#objects.backingOf(object);
    if (backing > 0) {
      reply.backingId = backing;
      reply.flags = OPEN.PASSTHROUGH | OPEN.NOFLUSH;
      return;
    }
    reply.flags = OPEN.KEEP_CACHE | OPEN.NOFLUSH;
    const place = inode.nid & (STORED - 1);
    if (!this.#objects.isFirst(object) || this.#stored[place] === inode.nid) return;
    this.#stored[place] = inode.nid;
    this.host.storeStart(r.nodeLo, r.nodeHi, object.slot, (_, out, size, offset) =>
      this.#readObject(object, out, Math.min(size, inode.size), offset),
    );
  }

  override read(
    r: Request,
    lo: number,
    hi: number,
    out: number,
    size: number,
    offset: number,
  ): number {
    if (lo === 0 && hi === 0) return super.read(r, lo, hi, out, size, offset);
    const object = this.#objects.get(lo, hi);
    if (object === undefined) return -E.BADF;
    if (object.inherited) {
      const refused = this.#renew(r, object);
      if (refused !== 0) return refused;
    }
    const result = this.#readObject(object, out, size, offset);
    if (result < 0) {
      const why = `object ${object.path} was changed while it was open, or cannot be read`;
      return this.#refuse(this.inodeOf(r), why);
    }
    return result;
  }

  /** Opens and compares again what a predecessor had open. @returns 0, PARKED or -errno. */
  #renew(r: Request, object: OpenObject): number {
    try {
      const inode = this.inodeOf(r);
      const refusal = this.#objects.renew(object, inode.size);
      if (refusal === undefined) return 0;
      return refusal === 'parked' ? PARKED : this.#refuse(inode, refusal.why);
    } catch (error) {
      return this.served.failure(error);
    }
  }

  /** As pread(2), whole; -EIO when the object is not what was compared any more. */
  #readObject(object: OpenObject, out: number, size: number, offset: number): number {
    let done = 0;
    while (done < size) {
      const n = pread(object.fd, out + done, size - done, offset + done);
      if (n === -E.INTR) continue;
      if (n < 0) return -E.IO;
      if (n === 0) break;
      done += n;
    }
    return this.#objects.isUnchanged(object) ? done : -E.IO;
  }

  override lseek(r: Request, lo: number, hi: number, offset: number, whence: number): number {
    const object = this.#objects.get(lo, hi);
    if (object === undefined) return super.lseek(r, lo, hi, offset, whence);
    if (whence !== SEEK.DATA && whence !== SEEK.HOLE) return -E.INVAL;
    if (object.inherited) {
      const refused = this.#renew(r, object);
      if (refused !== 0) return refused;
    }
    return lseek(object.fd, offset, whence);
  }

  override release(r: Request, lo: number, hi: number): number {
    const object = this.#objects.get(lo, hi);
    if (object !== undefined) this.#objects.leave(r, object);
    return 0;
  }

  /** EIO, and a line in the log that names the file by a path. */
  #refuse(inode: Inode, why: string): number {
    const at = performance.now();
    const before = this.#told.get(inode.nid);
    if (before?.why === why && at - before.at < QUIET) return -E.IO;
    if (this.#told.size >= MOST_TOLD) this.#told.clear();
    this.#told.set(inode.nid, { why, at });
    const tell = (path: string): void => this.#log(`${path}: ${why}: reading it gives EIO`);
    if (this.#paths.find(inode.nid, tell) && this.#paths.step()) {
      this.host.errand(() => this.#paths.step());
    }
    return -E.IO;
  }
}
