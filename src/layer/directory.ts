// A directory of some filesystem as a layer, read-only or the upper.
// Opened by stack/open.ts, used by overlay/ for every object; keeps a bounded number of O_PATH descriptors.
// Follows: openat(2) with O_NOFOLLOW from held descriptors, so that no name inside a layer can lead out of it.

import { MAGIC, O } from '../linux/constants.js';
import { type EntryCallback, readEntries } from '../linux/dirents.js';
import { E } from '../linux/errno.js';
import {
  close,
  dotPath,
  fstatfs,
  openAt,
  readlinkAt,
  Statx,
  statAt,
  statBuffer,
  statFd,
} from '../linux/files.js';
import { nameToHandle, openByHandle } from '../linux/handles.js';
import { u32 } from '../linux/memory.js';
import { getxattrAt, listxattrAt } from '../linux/xattr.js';
import * as counters from '../vfs/counters.js';
import { LISTING, LISTING_SIZE } from '../vfs/layout.js';
import { nameAt } from '../vfs/names.js';
import { allocDir, D, get, moveDir, put, releaseDir } from './dirs.js';
import { pathOfInode } from './find.js';
import type { UpperLayer } from './layer.js';

/** Descriptors of layer directories that may be open at once, over all layers of the mount. */
let fdLimit = 4096;

/** Descriptors that a caller may hold at the same time: an operation names four directories at most. */
const HELD = 8;

/**
 * Called before the layers of a mount are opened: no directory has a descriptor yet.
 * @param limit at least four times what callers hold, so that the clock always finds one to close.
 */
export function setFdLimit(limit: number): void {
  fdLimit = Math.max(limit, 4 * HELD);
  clockLength = 0;
  hand = 0;
  held.fill(0);
}

// Records whose descriptors were handed out last: the clock passes them by, for their callers still use them.
const held = new Uint32Array(HELD);
let heldNext = 0;

// Records with an open descriptor, as a clock: the hand closes those not used since it passed.
let clock = new Uint32Array(1024);
let clockLength = 0;
let hand = 0;

function remember(dir: number): void {
  if (clockLength < fdLimit) {
    if (clockLength === clock.length) {
      const grown = new Uint32Array(clock.length * 2);
      grown.set(clock);
      clock = grown;
    }
    clock[clockLength++] = dir;
    counters.set(counters.Counter.layerDirFds, clockLength);
    return;
  }
  for (;;) {
    hand = hand + 1 >= clockLength ? 0 : hand + 1;
    const other = clock[hand] as number;
    if (get(other, D.used) !== 0) {
      put(other, D.used, 0);
      continue;
    }
    if (held.includes(other)) continue;
    close(get(other, D.fd) - 1);
    put(other, D.fd, 0);
    clock[hand] = dir;
    return;
  }
}

function forgetDir(dir: number): void {
  close(get(dir, D.fd) - 1);
  put(dir, D.fd, 0);
  for (let i = 0; i < clockLength; i++) {
    if (clock[i] === dir) {
      clock[i] = clock[--clockLength] as number;
      if (hand >= clockLength) hand = 0;
      break;
    }
  }
}

/** Filesystems that show the objects of others: overlayfs lists the numbers of those, a FUSE server any or none. */
const COMPOSED: ReadonlySet<number> = new Set([MAGIC.FUSE, MAGIC.OVERLAYFS]);

const OPEN_DIR = O.PATH | O.DIRECTORY | O.NOFOLLOW;

export interface DirectoryLayerOptions {
  readonly index: number;
  readonly label: string;
  /** O_PATH descriptor of the root; owned by the layer. */
  readonly rootFd: number;
  readonly uuid: Uint8Array;
  readonly magic: number;
}

export class DirectoryLayer implements UpperLayer {
  readonly index: number;
  readonly label: string;
  readonly root: number;
  readonly magic: number;
  /** Both are set once more, when every layer of the stack is open. */
  uuid: Uint8Array;
  key = 0;
  readonly listsNumbers: boolean;
  readonly contentOnly = false;
  readonly metadataOnly = false;
  /** The root's descriptor, never closed by the clock. */
  private readonly rootFd: number;
  /** A real descriptor of the root, for handles; -1 until one is used, -errno where there can be none. */
  private mountFd = -1;
  private readonly openFlags: number;

  constructor(options: DirectoryLayerOptions) {
    this.index = options.index;
    this.label = options.label;
    this.uuid = options.uuid;
    this.magic = options.magic;
    this.listsNumbers = !COMPOSED.has(options.magic);
    this.rootFd = options.rootFd;
    this.openFlags = O.RDONLY | O.NOFOLLOW | O.NONBLOCK | O.NOATIME;
    this.root = allocDir(options.index, 0, 0, 0);
  }

  fd(dir: number): number {
    const fd = this.reach(dir);
    held[heldNext] = dir;
    heldNext = (heldNext + 1) % HELD;
    return fd;
  }

  /** The descriptor, opened from the nearest ancestor that has one. */
  private reach(dir: number): number {
    if (dir === this.root) return this.rootFd;
    const open = get(dir, D.fd);
    if (open !== 0) {
      put(dir, D.used, 1);
      return open - 1;
    }
    const parent = this.reach(get(dir, D.parent));
    if (parent < 0) return parent;
    const fd = openAt(parent, nameAt(get(dir, D.name)), OPEN_DIR);
    if (fd < 0) return fd;
    put(dir, D.fd, fd + 1);
    put(dir, D.used, 1);
    remember(dir);
    return fd;
  }

  stat(dir: number, name: number): number {
    const fd = this.fd(dir);
    return fd < 0 ? fd : statAt(fd, name);
  }

  statDir(dir: number): number {
    if (dir === this.root) return statFd(this.rootFd);
    const open = get(dir, D.fd);
    if (open !== 0) return statFd(open - 1);
    return this.stat(get(dir, D.parent), nameAt(get(dir, D.name)));
  }

  enter(dir: number, name: number, nameLen: number): number {
    return allocDir(this.index, dir, name, nameLen);
  }

  adopt(fd: number): number {
    const dir = allocDir(this.index, 0, 0, 0);
    if (dir !== 0) put(dir, D.fd, fd + 1);
    return dir;
  }

  release(dir: number): void {
    releaseDir(dir, forgetDir);
  }

  moved(dir: number, newParent: number, name: number, nameLen: number): void {
    moveDir(dir, newParent, name, nameLen, forgetDir);
  }

  open(dir: number, name: number): number {
    const fd = this.fd(dir);
    if (fd < 0) return fd;
    const r = openAt(fd, name, this.openFlags);
    return r === -E.PERM ? openAt(fd, name, this.openFlags & ~O.NOATIME) : r;
  }

  readlink(dir: number, name: number, out: number, size: number): number {
    const fd = this.fd(dir);
    return fd < 0 ? fd : readlinkAt(fd, name, out, size);
  }

  getxattr(dir: number, name: number, attr: number, out: number, size: number): number {
    const fd = this.fd(dir);
    return fd < 0 ? fd : getxattrAt(fd, name, attr, out, size);
  }

  listxattr(dir: number, name: number, out: number, size: number): number {
    const fd = this.fd(dir);
    return fd < 0 ? fd : listxattrAt(fd, name, out, size);
  }

  list(dir: number, entry: EntryCallback): number {
    const path = this.fd(dir);
    if (path < 0) return path;
    const name = dotPath();
    let fd = openAt(path, name, O.RDONLY | O.DIRECTORY | O.NOATIME);
    if (fd === -E.PERM) fd = openAt(path, name, O.RDONLY | O.DIRECTORY);
    if (fd < 0) return fd;
    const r = readEntries(fd, LISTING, LISTING_SIZE, entry);
    close(fd);
    return r;
  }

  handle(dir: number, name: number, out: number): number {
    const fd = this.fd(dir);
    return fd < 0 ? fd : nameToHandle(fd, name, out);
  }

  hasHandle(handle: number): number {
    const mount = openAt(this.rootFd, dotPath(), O.RDONLY | O.DIRECTORY | O.NOATIME);
    if (mount < 0) return mount;
    const fd = openByHandle(mount, handle, O.PATH | O.NOFOLLOW);
    close(mount);
    if (fd < 0) return fd === -E.STALE || fd === -E.NOENT ? 0 : fd;
    // Deleted, and still open somewhere: its last name went.
    const links = statFd(fd) < 0 ? 0 : (u32[(statBuffer() + Statx.nlink) >>> 2] as number);
    close(fd);
    return links > 0 ? 1 : 0;
  }

  pathOf(inoLo: number, inoHi: number): string | undefined {
    if (this.mountFd === -1) {
      this.mountFd = openAt(this.rootFd, dotPath(), O.RDONLY | O.DIRECTORY | O.NOATIME);
    }
    if (this.mountFd < 0) return undefined;
    return pathOfInode(this.magic, this.mountFd, this.rootFd, inoLo, inoHi);
  }

  statfs(out: number): number {
    return fstatfs(this.rootFd, out);
  }

  close(): void {
    if (this.mountFd >= 0) close(this.mountFd);
    close(this.rootFd);
  }
}
