// A folder on disk becomes a tree: one getdents, statx and listxattr a file, no file's content is read.
// Called by erofs/ and store/ builds and by comparisons; content is opened later, by name below the held root.
// Follows: statx(2), listxattr(2), openat2(2), lseek(2) SEEK_DATA; names are never resolved through symlinks.

import { AT, O, S } from '../linux/constants.js';
import { readEntries } from '../linux/dirents.js';
import { SysError } from '../linux/errno.js';
import * as files from '../linux/files.js';
import { getBytes, mapMemory, putBytes, scratch, u32 } from '../linux/memory.js';
import { openBelow } from './below.js';
import type { Excludes } from './exclude.js';
import { changed, failure, NodeReader, type Place, pathOf } from './read-node.js';
import type { SourceTree, TreeNode } from './tree.js';

const { Statx } = files;

// Parts of this thread's scratch: a path; directory entries. read-node.ts has others.
const NAME_AT = 0x1000;
const DENTS_AT = 0x20000;
const DENTS_SIZE = 0x8000;

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
  readonly #reader: NodeReader;
  readonly #pending: Pending[] = [];
  #names = 0;

  constructor(rootFd: number, options: ScanOptions) {
    this.#rootFd = rootFd;
    this.#options = options;
    this.#reader = new NodeReader(rootFd, options.repeatedXattrs);
  }

  run(): TreeNode {
    const place: Place = { parent: undefined, name: '' };
    const empty = files.emptyPath();
    const mode = files.statFd(this.#rootFd);
    if (mode < 0) throw new SysError('stat', mode);
    const identity = readIdentity();
    const root = this.#reader.node(mode, this.#rootFd, empty, place);
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
      node = this.#reader.node(mode, fd, at, place);
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
