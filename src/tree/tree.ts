// A file tree as data: its nodes, and the small operations that every source and every user of a tree shares.
// Made by scan, tar-read, cpio-read and dump; used by dump, compare, extract and the image writers of erofs/ and store/.
// Names, symlink targets and xattr names are bytes, carried as latin1 strings (one code unit a byte): their order is byte order.

import { type ByteSource, MemorySource } from '../bytes/source.js';
import { NAME_MAX, S } from '../linux/constants.js';

/** A run of data in a file, bytes. What lies between two of them is a hole. */
export interface Extent {
  readonly at: number;
  readonly length: number;
}

/** An open file's bytes. */
export interface OpenContent extends ByteSource {
  /**
   * Where they lie, when that is one run of a file: byte `at` is at `offset + at` of `fd`. For copies inside the kernel
   * and for threads that read on their own; valid until close(). Who reads this way calls check() afterwards.
   */
  readonly file?: { readonly fd: number; readonly offset: number };
  /** @throws TreeError when the bytes may have changed since the tree was made. read() asks at the end of the data. */
  check?(): void;
  /** Gives back what open() took. */
  close(): void;
}

/** Where the bytes of a regular file are had from; it may be opened any number of times. */
export interface Content {
  /** Data in ascending order, without overlaps, holes left out; undefined: all of it is data. */
  readonly extents?: readonly Extent[];
  /** @throws TreeError or SysError when the bytes are gone or have changed since the tree was made. */
  open(): OpenContent;
}

/** A file's content that lives elsewhere (composefs): named, never opened by the tree. */
export interface Backing {
  /** Path below the object store, latin1. */
  readonly path: string;
}

/**
 * One file, directory or other object. Hard links are the same object under several names.
 * Fields may be changed by whoever owns the tree, except `links` and `entries`, which change through add() and remove().
 */
export interface TreeNode {
  /** st_mode: type and permissions. */
  mode: number;
  uid: number;
  gid: number;
  /** Seconds since 1970, negative before it. */
  mtime: number;
  /** 0 to 999,999,999. */
  mtimeNsec: number;
  /** Of devices, in the kernel's new_encode_dev() form: minor low 8 bits, major 12 bits, minor high 12 bits. */
  rdev: number;
  /** By full name (`user.x`, `security.capability`), in byte order of the names where a source makes them. */
  xattrs: ReadonlyMap<string, Uint8Array> | undefined;
  /** Bytes of a regular file or of a symlink's target; for everything else what a dump said, without meaning. */
  size: number;
  /** Of regular files; undefined for one that is empty, all hole, or backed by an object. */
  content: Content | undefined;
  /** Of regular files whose bytes are an object of a store. */
  backing: Backing | undefined;
  /** fs-verity digest of a regular file, lower-case hex, where the source names one. */
  digest: string | undefined;
  /** Of symlinks. */
  target: string | undefined;
  /** Of directories, in any order; `walk` sorts. */
  entries: Map<string, TreeNode> | undefined;
  /** Names that this node has in the tree. Directories: 2 and one for each subdirectory. */
  links: number;
  /** st_nlink as a dump or an image states it, where that is to be kept; undefined: `links` is the truth. */
  statedLinks: number | undefined;
  /** Of hard links: the name that is the object's own where a source tells it from the others; it must be one of its names. */
  home: Name | undefined;
}

/** A name in a tree. */
export interface Name {
  readonly dir: TreeNode;
  readonly name: string;
}

/** A tree whose content is still where it came from: it can be opened until `close`. */
export interface SourceTree {
  readonly root: TreeNode;
  /** What it was made of. */
  readonly kind: 'folder' | 'tar' | 'cpio' | 'dump';
  close(): void;
}

/**
 * Whether an xattr only repeats another one: XFS shows root how it stores POSIX ACLs, beside the ACLs themselves. Sources
 * leave such out, so that a tree does not depend on where it was.
 */
export function isRepeatedXattr(name: string): boolean {
  return name === 'trusted.SGI_ACL_FILE' || name === 'trusted.SGI_ACL_DEFAULT';
}

/** What a node may be made with; what is missing is zero or undefined. */
export type NodeFields = Partial<Omit<TreeNode, 'entries' | 'links' | 'mode'>>;

/** A new node without a name. `mode` carries the type; a directory starts empty, with 2 links. */
export function makeNode(mode: number, fields: NodeFields = {}): TreeNode {
  const isDir = (mode & S.IFMT) === S.IFDIR;
  // One literal, so that all nodes of a tree have one hidden class.
  return {
    mode,
    uid: fields.uid ?? 0,
    gid: fields.gid ?? 0,
    mtime: fields.mtime ?? 0,
    mtimeNsec: fields.mtimeNsec ?? 0,
    rdev: fields.rdev ?? 0,
    xattrs: fields.xattrs,
    size: fields.size ?? fields.target?.length ?? 0,
    content: fields.content,
    backing: fields.backing,
    digest: fields.digest,
    target: fields.target,
    entries: isDir ? new Map() : undefined,
    links: isDir ? 2 : 0,
    statedLinks: fields.statedLinks,
    home: fields.home,
  };
}

export function isDirectory(node: TreeNode): node is TreeNode & { entries: Map<string, TreeNode> } {
  return node.entries !== undefined;
}

/** Whether a node is a whiteout in the form of overlayfs. */
export function isWhiteout(node: TreeNode): boolean {
  return (node.mode & S.IFMT) === S.IFCHR && node.rdev === 0;
}

/** Why `name` cannot be the name of an entry, or undefined when it can. */
export function nameProblem(name: string): string | undefined {
  if (name === '') return 'is empty';
  if (name === '.' || name === '..') return 'is a reference to a directory';
  if (name.length > NAME_MAX) return `is longer than ${NAME_MAX} bytes`;
  if (name.includes('/')) return 'contains a slash';
  if (name.includes('\0')) return 'contains a NUL byte';
  return undefined;
}

/**
 * Gives `node` a name in `dir`; a node that has one already becomes a hard link.
 * @throws RangeError when the name is no file name or taken, or the node is a directory that has a name.
 */
export function add(dir: TreeNode, name: string, node: TreeNode): void {
  const problem = nameProblem(name);
  if (problem !== undefined) throw new RangeError(`name ${show(name)} ${problem}`);
  if (dir.entries === undefined) throw new RangeError(`${show(name)}: its parent is no directory`);
  if (dir.entries.has(name)) throw new RangeError(`name ${show(name)} is taken`);
  dir.entries.set(name, node);
  if (node.entries === undefined) node.links++;
  else dir.links++;
}

/** Takes a name away. @returns the node that had it, which may have others; undefined when there is no such name. */
export function remove(dir: TreeNode, name: string): TreeNode | undefined {
  const node = dir.entries?.get(name);
  if (node === undefined) return undefined;
  dir.entries?.delete(name);
  if (node.entries === undefined) node.links--;
  else dir.links--;
  return node;
}

/** The node at a path (`/usr/bin`, `usr/bin`; `` and `/` are the root); `.` and `..` are not understood. */
export function find(root: TreeNode, path: string): TreeNode | undefined {
  let node: TreeNode | undefined = root;
  for (const name of path.split('/')) {
    if (name !== '') node = node?.entries?.get(name);
  }
  return node;
}

/**
 * Told about one name. `path` begins with a slash (the root is `/`), `parent` is undefined for the root.
 * @returns `false` from a directory leaves out what is below it.
 */
export type Visit = (
  path: string,
  node: TreeNode,
  parent: TreeNode | undefined,
  name: string,
) => unknown;

/**
 * Calls `visit` for every name: parents before children, the entries of each directory in byte order. A hard link
 * is visited under each of its names. Depth costs no stack.
 */
export function walk(root: TreeNode, visit: Visit): void {
  if (visit('/', root, undefined, '') === false || root.entries === undefined) return;
  interface Level {
    path: string;
    dir: TreeNode;
    names: string[];
    next: number;
  }
  const levels: Level[] = [{ path: '/', dir: root, names: sortedNames(root), next: 0 }];
  for (let level = levels[0]; level !== undefined; level = levels[levels.length - 1]) {
    const name = level.names[level.next++];
    if (name === undefined) {
      levels.pop();
      continue;
    }
    const node = level.dir.entries?.get(name);
    // A visitor may have removed it.
    if (node === undefined) continue;
    const path = level.path + name;
    if (visit(path, node, level.dir, name) === false || node.entries === undefined) continue;
    levels.push({ path: `${path}/`, dir: node, names: sortedNames(node), next: 0 });
  }
}

/** Names of a directory's entries in byte order. */
export function sortedNames(dir: TreeNode): string[] {
  // Latin1 strings: the default order, of code units, is that of bytes.
  return dir.entries === undefined ? [] : [...dir.entries.keys()].sort();
}

export interface Counts {
  /** Objects; a hard link counts once. */
  nodes: number;
  /** Names, that of the root not included. */
  names: number;
  directories: number;
  files: number;
  symlinks: number;
  /** Devices, fifos and sockets. */
  others: number;
  /** Sum of the sizes of regular files, holes included. */
  bytes: number;
}

/** How much there is, for progress and for reports. */
export function count(root: TreeNode): Counts {
  const counts: Counts = {
    nodes: 0,
    names: 0,
    directories: 0,
    files: 0,
    symlinks: 0,
    others: 0,
    bytes: 0,
  };
  const linked = new Set<TreeNode>();
  walk(root, (_path, node, parent) => {
    if (parent !== undefined) counts.names++;
    if (node.entries === undefined && node.links > 1) {
      if (linked.has(node)) return;
      linked.add(node);
    }
    counts.nodes++;
    const type = node.mode & S.IFMT;
    if (type === S.IFDIR) counts.directories++;
    else if (type === S.IFLNK) counts.symlinks++;
    else if (type === S.IFREG) {
      counts.files++;
      counts.bytes += node.size;
    } else counts.others++;
  });
  return counts;
}

/** The data of a regular file as extents: those of its content, or one of all. Empty for a file without content. */
export function dataExtents(node: TreeNode): readonly Extent[] {
  if (node.content === undefined || node.size === 0) return [];
  return node.content.extents ?? [{ at: 0, length: node.size }];
}

/** Where either of two files of one size has data, in ascending order, in pieces of at most `most` bytes. */
export function* dataOfEither(a: TreeNode, b: TreeNode, most: number): Generator<Extent> {
  const extents = [...dataExtents(a), ...dataExtents(b)].sort((one, other) => one.at - other.at);
  let done = 0;
  for (const { at, length } of extents) {
    for (let from = Math.max(at, done); from < at + length; from = done) {
      done = Math.min(from + most, at + length);
      yield { at: from, length: done - from };
    }
  }
}

/** The content of a file that is in memory; `bytes` are borrowed. */
export function memoryContent(bytes: Uint8Array): Content {
  return { open: () => Object.assign(new MemorySource(bytes), { close: () => {} }) };
}

/** A name or path for people: UTF-8 where it is that, control characters and other bytes escaped, in quotes. */
export function show(name: string): string {
  const bytes = Buffer.from(name, 'latin1');
  const text = bytes.toString('utf8');
  const readable = Buffer.from(text, 'utf8').equals(bytes) ? text : name;
  const escaped = readable.replace(/[\x00-\x1f\x7f-\x9f\\"]|[\x80-\xff]/g, (char) => {
    if (readable === text && char > '\x9f') return char;
    if (char === '\\' || char === '"') return `\\${char}`;
    return `\\x${char.charCodeAt(0).toString(16).padStart(2, '0')}`;
  });
  return `"${escaped}"`;
}
