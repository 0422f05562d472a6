// A folder on disk becomes a tree: one getdents, statx and listxattr a file, no file's content is read.
// Called by erofs/ and store/ builds and by comparisons; content is opened later, by name below the held root.
// Follows: statx(2), listxattr(2), openat2(2), lseek(2) SEEK_DATA; names are never resolved through symlinks.

import { requireRange } from '../bytes/source.js';
import { AT, O, S, SEEK } from '../linux/constants.js';
import { encodeDevice } from '../linux/device.js';
import { readEntries } from '../linux/dirents.js';
import { E, SysError } from '../linux/errno.js';
import * as files from '../linux/files.js';
import { getBytes, getU64, i32, mapMemory, putBytes, scratch, u8, u32 } from '../linux/memory.js';
import { getxattrAt, listxattrAt } from '../linux/xattr.js';
import { openBelow, readFully } from './below.js';
import { TreeError } from './errors.js';
import type { Excludes } from './exclude.js';
import {
  type Content,
  type Extent,
  isRepeatedXattr,
  makeNode,
  type OpenContent,
  type SourceTree,
  show,
  type TreeNode,
} from './tree.js';

const { Statx } = files;

// Parts of this thread's scratch: xattr values and link targets; names for getxattr; directory entries.
const VALUE_AT = 0x10000;
const VALUE_SIZE = 0x10000;
const NAME_AT = 0x1000;
const DENTS_AT = 0x20000;
const DENTS_SIZE = 0x8000;

/** Sets of xattrs up to this many bytes are shared by the nodes that have equal ones (SELinux labels). */
const SHARED_XATTRS = 1024;

export interface ScanOptions {
  /** What stays out of the tree. */
  readonly excludes?: Excludes;
  /** Directories of other file systems become empty ones. */
  readonly oneFileSystem?: boolean;
  /** Keep xattrs that only repeat others (isRepeatedXattr), as mkcomposefs does, whose images ours are to equal. */
  readonly repeatedXattrs?: boolean;
  /** Told the number of names so far, now and then. */
  readonly onProgress?: (names: number) => void;
}

/**
 * Reads the folder at `path` (a symlink there is followed, none below it). Takes memory by the number of files only.
 * @throws TreeError when something vanishes meanwhile, SysError when something cannot be read.
 */
export function scan(path: string, options: ScanOptions = {}): SourceTree {
  mapMemory();
  putBytes(scratch + NAME_AT, Buffer.from(path, 'utf8').toString('latin1'));
  const fd = files.openAt(AT.FDCWD, scratch + NAME_AT, O.RDONLY | O.DIRECTORY);
  if (fd < 0) throw new SysError('open', fd, path);
  try {
    const root = new Scan(fd, options).run();
    return { root, kind: 'folder', close: () => void files.close(fd) };
  } catch (error) {
    files.close(fd);
    throw error;
  }
}

/** Where an object is: its name and that of each directory above it. The root has an empty name. */
interface Place {
  readonly parent: Place | undefined;
  readonly name: string;
}

function pathOf(place: Place): string {
  const names: string[] = [];
  for (let at: Place | undefined = place; at?.parent !== undefined; at = at.parent) {
    names.push(at.name);
  }
  return names.reverse().join('/');
}

/** A directory whose entries are still to be read. */
interface Pending {
  readonly place: Place;
  readonly node: TreeNode;
  readonly identity: Identity;
}

/** What tells whether an object is still the one that was looked at: inode number, device and ctime as statx gives them. */
type Identity = readonly [inoLo: number, inoHi: number, major: number, minor: number];

class Scan {
  readonly #rootFd: number;
  readonly #options: ScanOptions;
  /** Files with several names, by identity. */
  readonly #linked = new Map<string, TreeNode>();
  readonly #xattrs = new Map<string, ReadonlyMap<string, Uint8Array>>();
  readonly #pending: Pending[] = [];
  #names = 0;

  constructor(rootFd: number, options: ScanOptions) {
    this.#rootFd = rootFd;
    this.#options = options;
  }

  run(): TreeNode {
    const place: Place = { parent: undefined, name: '' };
    const empty = files.emptyPath();
    const mode = files.statFd(this.#rootFd);
    if (mode < 0) throw new SysError('stat', mode);
    const identity = readIdentity();
    const root = this.#node(mode, this.#rootFd, empty, place);
    this.#pending.push({ place, node: root, identity });
    for (let next = this.#pending.pop(); next !== undefined; next = this.#pending.pop()) {
      this.#directory(next, identity);
    }
    this.#options.onProgress?.(this.#names);
    return root;
  }

  #directory(pending: Pending, root: Identity): void {
    const { place, node } = pending;
    const path = pathOf(place);
    const fd = openBelow(this.#rootFd, path, O.RDONLY | O.DIRECTORY);
    if (fd < 0) throw failure('open', fd, path);
    try {
      if (files.statFd(fd) < 0 || !isSame(pending.identity)) throw changed(path);
      const prefix = path === '' ? '' : `${path}/`;
      const r = readEntries(fd, scratch + DENTS_AT, DENTS_SIZE, (name, length) => {
        this.#entry(fd, name, { parent: place, name: getBytes(name, length) }, prefix, node, root);
      });
      if (r < 0) throw failure('read', r, path);
    } finally {
      files.close(fd);
    }
  }

  /** One name; `at` is the arena offset of it. */
  #entry(
    fd: number,
    at: number,
    place: Place,
    prefix: string,
    dir: TreeNode,
    root: Identity,
  ): void {
    const mode = files.statAt(fd, at);
    if (mode < 0) throw failure('stat', mode, prefix + place.name);
    const isDir = (mode & S.IFMT) === S.IFDIR;
    if (this.#options.excludes?.(prefix + place.name, isDir)) return;
    if ((++this.#names & 0x3ff) === 0) this.#options.onProgress?.(this.#names);
    const stat = files.statBuffer() >>> 2;
    const identity = isDir ? readIdentity() : undefined;
    const hasNames = !isDir && (u32[stat + (Statx.nlink >>> 2)] as number) > 1;
    const key = hasNames ? readIdentity().join(':') : '';
    let node = hasNames ? this.#linked.get(key) : undefined;
    if (node === undefined) {
      node = this.#node(mode, fd, at, place);
      if (hasNames) this.#linked.set(key, node);
    }
    // As add(), without asking again whether the kernel's name is one and is new.
    (dir.entries as Map<string, TreeNode>).set(place.name, node);
    if (identity === undefined) {
      node.links++;
      return;
    }
    dir.links++;
    // A directory of another file system stays empty. Files are taken from anywhere: on overlayfs theirs have other devices.
    if (this.#options.oneFileSystem && (identity[2] !== root[2] || identity[3] !== root[3])) return;
    this.#pending.push({ place, node, identity });
  }

  /** A node of what statBuffer() describes: `at` below `fd`. */
  #node(mode: number, fd: number, at: number, place: Place): TreeNode {
    const stat = files.statBuffer();
    const k = stat >>> 2;
    const type = mode & S.IFMT;
    const size = type === S.IFREG ? getU64(stat + Statx.size) : 0;
    const isSparse = size > 0 && getU64(stat + Statx.blocks) * 512 < size;
    const node = makeNode(mode, {
      uid: u32[k + (Statx.uid >>> 2)],
      gid: u32[k + (Statx.gid >>> 2)],
      mtime: readSeconds(stat + Statx.mtime),
      mtimeNsec: u32[k + (Statx.mtime >>> 2) + 2],
      size,
    });
    if (type === S.IFCHR || type === S.IFBLK) {
      node.rdev = encodeDevice(
        u32[k + (Statx.rdev_major >>> 2)] as number,
        u32[k + (Statx.rdev_minor >>> 2)] as number,
      );
    } else if (size > 0) {
      node.content = new FileContent(this.#rootFd, place, size, isSparse);
    }
    if (type === S.IFLNK) {
      const target = scratch + VALUE_AT;
      const length = files.readlinkAt(fd, at, target, VALUE_SIZE);
      if (length < 0) throw failure('readlink', length, pathOf(place));
      node.target = getBytes(target, length);
      node.size = length;
    }
    node.xattrs = this.#readXattrs(fd, at, place);
    return node;
  }

  #readXattrs(fd: number, at: number, place: Place): ReadonlyMap<string, Uint8Array> | undefined {
    const value = scratch + VALUE_AT;
    const length = listxattrAt(fd, at, value, VALUE_SIZE);
    if (length === 0 || length === -E.OPNOTSUPP) return undefined;
    if (length < 0) throw failure('listxattr', length, pathOf(place));
    const names = getBytes(value, length - 1)
      .split('\0')
      .sort();
    const xattrs = new Map<string, Uint8Array>();
    let key = '';
    let bytes = 0;
    for (const name of names) {
      if (isRepeatedXattr(name) && this.#options.repeatedXattrs !== true) continue;
      putBytes(scratch + NAME_AT, name);
      const n = getxattrAt(fd, at, scratch + NAME_AT, value, VALUE_SIZE);
      if (n < 0) throw failure(`getxattr ${show(name)} of`, n, pathOf(place));
      xattrs.set(name, u8.slice(value, value + n));
      bytes += n;
      if (bytes <= SHARED_XATTRS) key += `${name}\0${n}:${getBytes(value, n)}`;
    }
    if (xattrs.size === 0) return undefined;
    if (bytes > SHARED_XATTRS) return xattrs;
    const known = this.#xattrs.get(key);
    if (known !== undefined) return known;
    this.#xattrs.set(key, xattrs);
    return xattrs;
  }
}

/** The content of a scanned file. What is on disk must still be what was scanned, before and after it is read. */
class FileContent implements Content {
  readonly extents: readonly Extent[] | undefined;
  readonly #rootFd: number;
  readonly #place: Place;
  readonly #size: number;
  readonly #ino: number;
  readonly #inoHi: number;
  readonly #ctime: number;
  readonly #ctimeNsec: number;

  /** Of the file that statBuffer() describes; a sparse one is opened for its holes. */
  constructor(rootFd: number, place: Place, size: number, isSparse: boolean) {
    const k = files.statBuffer() >>> 2;
    this.#rootFd = rootFd;
    this.#place = place;
    this.#size = size;
    this.#ino = u32[k + (Statx.ino >>> 2)] as number;
    this.#inoHi = u32[k + (Statx.ino >>> 2) + 1] as number;
    this.#ctime = u32[k + (Statx.ctime >>> 2)] as number;
    this.#ctimeNsec = u32[k + (Statx.ctime >>> 2) + 2] as number;
    this.extents = isSparse ? this.#findExtents() : undefined;
  }

  open(): OpenContent {
    const fd = this.#openFile();
    const size = this.#size;
    const end = this.extents === undefined ? size : endOf(this.extents);
    return {
      size,
      file: { fd, offset: 0 },
      read: (at, out) => {
        requireRange(at, out.length, size);
        if (readFully(fd, out, at, this.#path()) < out.length) throw changed(this.#path());
        if (at + out.length >= end) this.#mustBeUnchanged(fd);
      },
      check: () => this.#mustBeUnchanged(fd),
      close: () => void files.close(fd),
    };
  }

  #path(): string {
    return pathOf(this.#place);
  }

  #openFile(): number {
    const path = this.#path();
    const flags = O.RDONLY | O.NOCTTY | O.NONBLOCK;
    // Reading a source should not write access times to it; only the owner may ask for that.
    let fd = openBelow(this.#rootFd, path, flags | O.NOATIME);
    if (fd === -E.PERM) fd = openBelow(this.#rootFd, path, flags);
    if (fd < 0) throw failure('open', fd, path);
    try {
      this.#mustBeUnchanged(fd);
    } catch (error) {
      files.close(fd);
      throw error;
    }
    return fd;
  }

  #mustBeUnchanged(fd: number): void {
    const r = files.statFd(fd);
    if (r < 0) throw failure('stat', r, this.#path());
    const stat = files.statBuffer();
    const k = stat >>> 2;
    const same =
      u32[k + (Statx.ino >>> 2)] === this.#ino &&
      u32[k + (Statx.ino >>> 2) + 1] === this.#inoHi &&
      u32[k + (Statx.ctime >>> 2)] === this.#ctime &&
      u32[k + (Statx.ctime >>> 2) + 2] === this.#ctimeNsec &&
      getU64(stat + Statx.size) === this.#size;
    if (!same) throw changed(this.#path());
  }

  /** undefined when all of it is data after all (the file system compresses, or stores small files elsewhere). */
  #findExtents(): readonly Extent[] | undefined {
    const fd = this.#openFile();
    try {
      const extents: Extent[] = [];
      for (let at = 0; at < this.#size; ) {
        const data = files.lseek(fd, at, SEEK.DATA);
        if (data === -E.NXIO) break;
        if (data < 0) return undefined;
        const hole = files.lseek(fd, data, SEEK.HOLE);
        if (hole <= data) return undefined;
        const end = Math.min(hole, this.#size);
        if (data < end) extents.push({ at: data, length: end - data });
        at = hole;
      }
      return extents.length === 1 && extents[0]?.length === this.#size ? undefined : extents;
    } finally {
      files.close(fd);
    }
  }
}

function endOf(extents: readonly Extent[]): number {
  const last = extents[extents.length - 1];
  return last === undefined ? 0 : last.at + last.length;
}

function readIdentity(): Identity {
  const k = files.statBuffer() >>> 2;
  return [
    u32[k + (Statx.ino >>> 2)] as number,
    u32[k + (Statx.ino >>> 2) + 1] as number,
    u32[k + (Statx.dev_major >>> 2)] as number,
    u32[k + (Statx.dev_minor >>> 2)] as number,
  ];
}

/** Whether statBuffer() describes the same object. */
function isSame(identity: Identity): boolean {
  const now = readIdentity();
  return identity.every((part, i) => part === now[i]);
}

/** Seconds of the struct statx_timestamp at `at`, as a Number. */
function readSeconds(at: number): number {
  return (i32[(at >>> 2) + 1] as number) * 0x1_0000_0000 + (u32[at >>> 2] as number);
}

function failure(op: string, errno: number, path: string): Error {
  const cause = new SysError(op, errno, show(path));
  if (errno !== -E.NOENT && errno !== -E.LOOP && errno !== -E.NOTDIR && errno !== -E.NODATA) {
    return cause;
  }
  return changed(path, cause);
}

function changed(path: string, cause?: Error): TreeError {
  return new TreeError(
    `${show(path)} changed while the tree was read; read a tree that nobody writes to, or a snapshot of it`,
    { cause },
  );
}
