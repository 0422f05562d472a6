// A tree becomes files: owners, modes, xattrs, ACLs, links, times, devices, holes; nothing outside of the target is touched.
// Called by `image extract` and store/. A target that does not exist is prepared beside it and appears by one rename.
// Follows: openat(2), renameat2(2), copy_file_range(2). Directories are held open; no symlink is ever followed.

import { basename, dirname, resolve } from 'node:path';
import { AT, O, RENAME, S } from '../linux/constants.js';
import { readEntries } from '../linux/dirents.js';
import { E, SysError } from '../linux/errno.js';
import * as files from '../linux/files.js';
import { mapMemory, putBytes, scratch } from '../linux/memory.js';
import { openBelow } from './below.js';
import { TreeError } from './errors.js';
import { applyAttributes, type Privileges } from './extract-attributes.js';
import { copyContent } from './extract-content.js';
import { removeTree } from './remove-tree.js';
import { nameProblem, type OpenContent, show, sortedNames, type TreeNode } from './tree.js';

// This thread's scratch: a name, another one (hard links), paths and link targets, directory entries.
const NAME_AT = 0x800;
const OTHER_AT = 0xa00;
const PATH_AT = 0x1000;
const DENTS_AT = 0x20000;
const DENTS_SIZE = 0x8000;

/** Directories that are held open at once; those above are opened again when the walk comes back. */
const OPEN_LEVELS = 64;

export interface ExtractOptions {
  /** Give files their owners; default: when this is root. Without it, set-id bits go where the owner is another one. */
  readonly owners?: boolean;
  /** Write into a directory that has entries already: files are replaced, directories kept. */
  readonly merge?: boolean;
  /** Told the number of names so far, now and then. */
  readonly onProgress?: (names: number) => void;
  /** Bytes of files that are objects of a store. */
  readonly openBacking?: (node: TreeNode) => OpenContent;
  /** Regular files that another tree on the same filesystem has already. */
  readonly reuse?: Reuse;
}

/** Files that get one name more, in place of being copied. */
export interface Reuse {
  /** Of the other tree's directory. */
  readonly fd: number;
  /** Whether the file at this path of both trees is the node in all that counts. Path from the target, latin1. */
  has(path: string, node: TreeNode): boolean;
}

/** What could not be done, and how often: with the first path that it happened to. */
export interface ExtractWarning {
  readonly problem: string;
  readonly path: string;
  count: number;
}

/**
 * Writes `tree` to the directory `target`.
 * @returns what this process may not do (devices, owners, xattrs) and left out.
 * @throws TreeError for a target that is not empty, or a tree that would leave it; SysError when the disk says no. What
 * was written is removed again, unless the target existed.
 */
export function extractTree(
  tree: TreeNode,
  target: string,
  options: ExtractOptions = {},
): ExtractWarning[] {
  mapMemory();
  if (tree.entries === undefined) throw new TreeError('only a directory can be extracted');
  const path = resolve(target);
  const existing = openPath(path, O.RDONLY | O.DIRECTORY | O.NOFOLLOW);
  if (existing >= 0) return intoExisting(tree, existing, target, options);
  if (existing === -E.NOTDIR || existing === -E.LOOP) {
    throw new TreeError(`${target} is there and no directory (symlinks are not followed)`);
  }
  if (existing !== -E.NOENT) throw new SysError('open', existing, target);
  return intoNew(tree, path, target, options);
}

function intoExisting(
  tree: TreeNode,
  fd: number,
  target: string,
  options: ExtractOptions,
): ExtractWarning[] {
  try {
    if (!options.merge) {
      let isEmpty = true;
      const r = readEntries(fd, scratch + DENTS_AT, DENTS_SIZE, () => (isEmpty = false));
      if (r < 0) throw new SysError('read', r, target);
      if (!isEmpty) throw new TreeError(`${target} is not empty: name a new or an empty directory`);
    }
    return new Extraction(fd, options).run(tree);
  } finally {
    files.close(fd);
  }
}

function intoNew(
  tree: TreeNode,
  path: string,
  target: string,
  options: ExtractOptions,
): ExtractWarning[] {
  const parent = openPath(dirname(path), O.RDONLY | O.DIRECTORY);
  if (parent < 0) throw new SysError('open', parent, dirname(target));
  const name = bytesOf(basename(path));
  // Not longer than a name can be, whatever the target is called.
  const stage = `.${name.slice(0, 200)}.${process.pid}.${process.hrtime.bigint() % 1_000_000n}`;
  try {
    must(files.mkdirAt(parent, put(NAME_AT, stage), 0o700), 'mkdir', stage);
    try {
      const flags = O.RDONLY | O.DIRECTORY | O.NOFOLLOW;
      const fd = must(files.openAt(parent, put(NAME_AT, stage), flags), 'open', stage);
      let warnings: ExtractWarning[];
      try {
        warnings = new Extraction(fd, options).run(tree);
      } finally {
        files.close(fd);
      }
      const from = put(NAME_AT, stage);
      const r = files.renameAt(parent, from, parent, put(OTHER_AT, name), RENAME.NOREPLACE);
      if (r < 0) throw new SysError('rename to', r, target);
      return warnings;
    } catch (error) {
      removeTree(parent, stage);
      throw error;
    }
  } finally {
    files.close(parent);
  }
}

interface Level {
  /** -1: closed, because deeper ones need descriptors. */
  fd: number;
  /** From the target, with a slash behind each name; empty for the target itself. */
  readonly path: string;
  readonly node: TreeNode;
  readonly names: readonly string[];
  next: number;
}

class Extraction {
  readonly #root: number;
  readonly #options: ExtractOptions;
  readonly #privileges: Privileges;
  readonly #warnings = new Map<string, ExtractWarning>();
  /** First names of files that have several, from the target. */
  readonly #linked = new Map<TreeNode, string>();
  readonly #seen = new Set<TreeNode>();
  readonly #levels: Level[] = [];
  #names = 0;

  constructor(root: number, options: ExtractOptions) {
    this.#root = root;
    this.#options = options;
    const isRoot = process.geteuid?.() === 0;
    this.#privileges = {
      owners: options.owners ?? isRoot,
      uid: process.geteuid?.() ?? 0,
      gid: process.getegid?.() ?? 0,
    };
  }

  run(tree: TreeNode): ExtractWarning[] {
    this.#enter(files.duplicate(this.#root), '', tree);
    for (let level = this.#levels.at(-1); level !== undefined; level = this.#levels.at(-1)) {
      const name = level.names[level.next++];
      if (name === undefined) this.#leave(level);
      else this.#entry(level, name);
    }
    this.#options.onProgress?.(this.#names);
    return [...this.#warnings.values()];
  }

  #enter(fd: number, path: string, node: TreeNode): void {
    if (fd < 0) throw new SysError('open', fd, show(path));
    if (this.#seen.has(node)) {
      files.close(fd);
      throw new TreeError(`the directory ${show(path)} has more than one name`);
    }
    this.#seen.add(node);
    const above = this.#levels[this.#levels.length - OPEN_LEVELS];
    if (above !== undefined && above.fd >= 0) {
      files.close(above.fd);
      above.fd = -1;
    }
    this.#levels.push({ fd, path, node, names: sortedNames(node), next: 0 });
  }

  /** A directory gets its attributes when it is complete: its time, and default ACLs, which entries would inherit. */
  #leave(level: Level): void {
    const fd = this.#fdOf(level);
    this.#levels.pop();
    try {
      const path = level.path.slice(0, -1);
      applyAttributes(fd, files.emptyPath(), level.node, this.#privileges, (problem) =>
        this.#warn(problem, path),
      );
    } finally {
      files.close(fd);
    }
  }

  #fdOf(level: Level): number {
    if (level.fd < 0) {
      const path = level.path.slice(0, -1);
      level.fd = must(openBelow(this.#root, path, O.RDONLY | O.DIRECTORY), 'open', path);
    }
    return level.fd;
  }

  #entry(level: Level, name: string): void {
    const path = level.path + name;
    const problem = nameProblem(name);
    if (problem !== undefined) throw new TreeError(`the name ${show(path)} ${problem}`);
    if ((++this.#names & 0x3ff) === 0) this.#options.onProgress?.(this.#names);
    const node = level.node.entries?.get(name);
    if (node === undefined) return;
    const dir = this.#fdOf(level);
    if (node.entries !== undefined) {
      this.#directory(dir, name, path, node);
      return;
    }
    const first = this.#linked.get(node);
    if (first !== undefined) {
      this.#link(dir, name, path, first);
      return;
    }
    if (this.#make(dir, name, path, node) && node.links > 1) this.#linked.set(node, path);
  }

  #directory(dir: number, name: string, path: string, node: TreeNode): void {
    const r = files.mkdirAt(dir, put(NAME_AT, name), 0o700);
    if (r < 0 && !(r === -E.EXIST && this.#options.merge))
      throw new SysError('mkdir', r, show(path));
    const fd = files.openAt(dir, put(NAME_AT, name), O.RDONLY | O.DIRECTORY | O.NOFOLLOW);
    this.#enter(fd, `${path}/`, node);
  }

  #link(dir: number, name: string, path: string, first: string): void {
    const slash = first.lastIndexOf('/');
    const parent = openBelow(this.#root, first.slice(0, Math.max(slash, 0)), O.PATH | O.DIRECTORY);
    must(parent, 'open', first);
    try {
      this.#clear(dir, name);
      const from = put(OTHER_AT, first.slice(slash + 1));
      const r = files.linkAt(parent, from, dir, put(NAME_AT, name));
      if (r < 0) throw new SysError('link', r, show(path));
    } finally {
      files.close(parent);
    }
  }

  /** Makes anything but a directory. @returns false when this process may not. */
  #make(dir: number, name: string, path: string, node: TreeNode): boolean {
    this.#clear(dir, name);
    const type = node.mode & S.IFMT;
    if (type === S.IFREG) {
      if (!this.#reuse(dir, name, path, node)) this.#file(dir, name, path, node);
      return true;
    }
    if (type === S.IFLNK) {
      const target = node.target ?? '';
      if (target.length > 4095) throw new SysError('symlink', E.NAMETOOLONG, show(path));
      putBytes(scratch + PATH_AT, target);
      must(files.symlinkAt(scratch + PATH_AT, dir, put(NAME_AT, name)), 'symlink', path);
    } else {
      const r = files.mknodAt(dir, put(NAME_AT, name), type | 0o600, node.rdev);
      if (r === -E.PERM) {
        this.#warn('devices need root; left out', path);
        return false;
      }
      must(r, 'mknod', path);
    }
    const warn = (problem: string) => this.#warn(problem, path);
    applyAttributes(dir, put(NAME_AT, name), node, this.#privileges, warn);
    return true;
  }

  /** @returns false when it must be written. */
  #reuse(dir: number, name: string, path: string, node: TreeNode): boolean {
    const { reuse } = this.#options;
    if (reuse === undefined || !reuse.has(path, node)) return false;
    const slash = path.lastIndexOf('/');
    const flags = O.PATH | O.DIRECTORY;
    const parent = must(
      openBelow(reuse.fd, path.slice(0, Math.max(slash, 0)), flags),
      'open',
      path,
    );
    try {
      const from = put(OTHER_AT, name);
      return files.linkAt(parent, from, dir, put(NAME_AT, name)) >= 0;
    } finally {
      files.close(parent);
    }
  }

  #file(dir: number, name: string, path: string, node: TreeNode): void {
    const flags = O.WRONLY | O.CREAT | O.EXCL | O.NOFOLLOW;
    const fd = must(files.openAt(dir, put(NAME_AT, name), flags, 0o600), 'create', path);
    try {
      copyContent(node, fd, path, this.#options.openBacking);
      applyAttributes(fd, files.emptyPath(), node, this.#privileges, (problem) =>
        this.#warn(problem, path),
      );
    } finally {
      files.close(fd);
    }
  }

  /** When merging: takes away what has the name, unless it is a directory. */
  #clear(dir: number, name: string): void {
    if (!this.#options.merge) return;
    const r = files.unlinkAt(dir, put(NAME_AT, name));
    if (r < 0 && r !== -E.NOENT) throw new SysError('unlink', r, show(name));
  }

  #warn(problem: string, path: string): void {
    const known = this.#warnings.get(problem);
    if (known === undefined) this.#warnings.set(problem, { problem, path, count: 1 });
    else known.count++;
  }
}

function put(at: number, name: string): number {
  putBytes(scratch + at, name);
  return scratch + at;
}

/** Opens a path as a person names it: symlinks on the way are followed, as everywhere. */
function openPath(path: string, flags: number): number {
  const bytes = bytesOf(path);
  if (bytes.length > 4095) return -E.NAMETOOLONG;
  return files.openAt(AT.FDCWD, put(PATH_AT, bytes), flags);
}

function bytesOf(text: string): string {
  return Buffer.from(text, 'utf8').toString('latin1');
}

function must(result: number, op: string, path: string): number {
  if (result < 0) throw new SysError(op, result, show(path));
  return result;
}
