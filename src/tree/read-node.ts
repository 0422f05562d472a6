// One object of a folder on disk becomes a node: its attributes, xattrs and target now, its content when it is opened.
// Used by scan.ts for whole folders and by union/ for single objects; names are arena offsets below an open directory.
// Follows: statx(2), listxattr(2), openat2(2), lseek(2) SEEK_DATA; names are never resolved through symlinks.

import { requireRange } from '../bytes/source.js';
import { O, S, SEEK } from '../linux/constants.js';
import { encodeDevice } from '../linux/device.js';
import { E, SysError } from '../linux/errno.js';
import * as files from '../linux/files.js';
import { getBytes, getU64, i32, putBytes, scratch, u8, u32 } from '../linux/memory.js';
import { getxattrAt, listxattrAt } from '../linux/xattr.js';
import { openBelow, readFully } from './below.js';
import { TreeError } from './errors.js';
import {
  type Content,
  type Extent,
  isRepeatedXattr,
  makeNode,
  type OpenContent,
  show,
  type TreeNode,
} from './tree.js';

const { Statx } = files;

// Parts of this thread's scratch: xattr values and link targets; names for getxattr.
const VALUE_AT = 0x10000;
const VALUE_SIZE = 0x10000;
const NAME_AT = 0x1000;

/** Sets of xattrs up to this many bytes are shared by the nodes that have equal ones (SELinux labels). */
const SHARED_XATTRS = 1024;

/** Where an object is: its name and that of each directory above it. The root has an empty name. */
export interface Place {
  readonly parent: Place | undefined;
  readonly name: string;
}

export function pathOf(place: Place): string {
  const names: string[] = [];
  for (let at: Place | undefined = place; at?.parent !== undefined; at = at.parent) {
    names.push(at.name);
  }
  return names.reverse().join('/');
}

/** Makes the nodes of one folder; equal xattrs are kept once. */
export class NodeReader {
  readonly #rootFd: number;
  readonly #repeatedXattrs: boolean;
  readonly #xattrs = new Map<string, ReadonlyMap<string, Uint8Array>>();

  /** @param rootFd of the folder, open as long as content is. @param repeatedXattrs as ScanOptions has it. */
  constructor(rootFd: number, repeatedXattrs = false) {
    this.#rootFd = rootFd;
    this.#repeatedXattrs = repeatedXattrs;
  }

  /** A node of what statBuffer() describes: `at` below `fd`. */
  node(mode: number, fd: number, at: number, place: Place): TreeNode {
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
      if (isRepeatedXattr(name) && !this.#repeatedXattrs) continue;
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

/** Seconds of the struct statx_timestamp at `at`, as a Number. */
function readSeconds(at: number): number {
  return (i32[(at >>> 2) + 1] as number) * 0x1_0000_0000 + (u32[at >>> 2] as number);
}

export function failure(op: string, errno: number, path: string): Error {
  const cause = new SysError(op, errno, show(path));
  if (errno !== -E.NOENT && errno !== -E.LOOP && errno !== -E.NOTDIR && errno !== -E.NODATA) {
    return cause;
  }
  return changed(path, cause);
}

export function changed(path: string, cause?: Error): TreeError {
  return new TreeError(
    `${show(path)} changed while the tree was read; read a tree that nobody writes to, or a snapshot of it`,
    { cause },
  );
}
