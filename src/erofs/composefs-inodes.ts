// The inodes of a composefs image: a tree in the order in which they are stored, with the marks that overlayfs reads.
// Called by composefs.ts. External files become metacopy files that name their object; whiteouts are escaped, for the
// image is a layer itself; in the root, 256 whiteouts hide the folders of the object store.
// Follows: what mkcomposefs of composefs 1.0.8 writes; Documentation/filesystems/overlayfs.rst, "Nesting overlayfs mounts".

import { S } from '../linux/constants.js';
import { isWhiteout, show, type TreeNode } from '../tree/tree.js';
import { ESCAPED, METACOPY, metacopyOf, OVERLAY, REDIRECT, USER } from './composefs-marks.js';
import { byName, type ComposefsXattr, ComposefsXattrs } from './composefs-xattrs.js';

/** Directories hold whiteouts in the form that Linux 6.7 reads from this version on. */
export type ComposefsVersion = 0 | 1;

/** One inode, before and after it has a place. */
export class ComposefsInode {
  /** Undefined for the whiteouts of the root. */
  readonly node: TreeNode | undefined;
  readonly parent: ComposefsInode;
  readonly mode: number;
  readonly uid: number;
  readonly gid: number;
  readonly mtime: number;
  readonly mtimeNsec: number;
  readonly links: number;
  /** As the tree states it; that of a directory follows from its names. */
  readonly size: number;
  /** Sorted by name. */
  xattrs: readonly ComposefsXattr[] = [];
  /** Of directories: sorted, with `.` and `..`, and what they stand for. */
  names: readonly string[] = [];
  children: ComposefsInode[] = [];
  /** Bytes of inode and xattrs. */
  headSize = 0;
  isCompact = false;
  /** Byte in the image, from the block of the superblock on. */
  offset = 0;
  /** Full blocks of data elsewhere. */
  blocks = 0;
  /** Bytes of data behind the inode. */
  tailSize = 0;

  constructor(
    node: TreeNode | undefined,
    parent: ComposefsInode | undefined,
    fields: Pick<ComposefsInode, 'mode' | 'uid' | 'gid' | 'mtime' | 'mtimeNsec' | 'links' | 'size'>,
  ) {
    this.node = node;
    this.parent = parent ?? this;
    this.mode = fields.mode;
    this.uid = fields.uid;
    this.gid = fields.gid;
    this.mtime = fields.mtime;
    this.mtimeNsec = fields.mtimeNsec;
    this.links = fields.links;
    this.size = fields.size;
  }

  get type(): number {
    return this.mode & S.IFMT;
  }

  /** Regular, and its bytes are an object of a store. */
  get isExternal(): boolean {
    return this.type === S.IFREG && this.size > 0 && this.node?.content === undefined;
  }

  get nid(): number {
    return this.offset / 32;
  }

  /** For people; of a hard link, the name that counts. latin1. */
  get path(): string {
    let path = '';
    for (let at: ComposefsInode = this; at.parent !== at; at = at.parent) {
      path = `/${at.parent.names[at.parent.children.indexOf(at)] ?? '?'}${path}`;
    }
    return path === '' ? '/' : path;
  }
}

export interface ComposefsTree {
  /** In the order of the image: breadth first, the names of a directory sorted. */
  readonly inodes: readonly ComposefsInode[];
  readonly xattrs: ComposefsXattrs;
  readonly version: ComposefsVersion;
  readonly hasAcl: boolean;
}

export interface ComposefsTreeOptions {
  /** Undefined: 1 where there is a whiteout, which needs it, else 0. */
  readonly version?: ComposefsVersion | undefined;
  /** Every name of a hard link becomes an inode of its own, as mkcomposefs builds directories. */
  readonly splitLinks?: boolean | undefined;
}

/** @throws RangeError that names the path, for what an image cannot store. */
export function composefsInodes(tree: TreeNode, options: ComposefsTreeOptions): ComposefsTree {
  return new Walk(tree, options).run();
}

class Walk {
  readonly #xattrs = new ComposefsXattrs();
  readonly #inodes: ComposefsInode[] = [];
  /** Hard-linked objects: their inode, once their first name was met. */
  readonly #linked = new Map<TreeNode, ComposefsInode>();
  /** Names that stand for an inode which comes later: directory, place among its children, object. */
  readonly #later: [ComposefsInode, number, TreeNode][] = [];
  readonly #tree: TreeNode;
  readonly #version: ComposefsVersion;
  readonly #splitLinks: boolean;
  #hasAcl = false;

  constructor(tree: TreeNode, options: ComposefsTreeOptions) {
    if (tree.entries === undefined) throw new RangeError('the root of a tree must be a directory');
    this.#tree = tree;
    this.#splitLinks = options.splitLinks ?? false;
    this.#version = options.version ?? (hasWhiteout(tree) ? 1 : 0);
  }

  run(): ComposefsTree {
    const inodes = this.#inodes;
    const root = this.#make(this.#tree, undefined, '/');
    for (let i = 0; i < inodes.length; i++) {
      const dir = inodes[i] as ComposefsInode;
      if (dir.type === S.IFDIR) this.#enter(dir, dir === root);
    }
    for (const [dir, place, node] of this.#later) {
      dir.children[place] = this.#linked.get(node) as ComposefsInode;
    }
    this.#xattrs.settle();
    return {
      inodes,
      xattrs: this.#xattrs,
      version: this.#version,
      hasAcl: this.#hasAcl,
    };
  }

  #enter(dir: ComposefsInode, isRoot: boolean): void {
    const node = dir.node as TreeNode;
    const entries = node.entries as Map<string, TreeNode>;
    const names = ['.', '..', ...entries.keys()];
    if (isRoot) {
      for (let i = 0; i < 256; i++) {
        const name = i.toString(16).padStart(2, '0');
        if (!entries.has(name)) names.push(name);
      }
    }
    names.sort();
    dir.names = names;
    for (let i = 0; i < names.length; i++) {
      const name = names[i] as string;
      if (name === '.') dir.children.push(dir);
      else if (name === '..') dir.children.push(dir.parent);
      else {
        const child = entries.get(name);
        if (child === undefined) dir.children.push(this.#cover(dir));
        else dir.children.push(this.#child(dir, name, child, i));
      }
    }
  }

  #child(dir: ComposefsInode, name: string, node: TreeNode, place: number): ComposefsInode {
    const isLinked = node.links > 1 && node.entries === undefined && !this.#splitLinks;
    if (!isLinked) return this.#make(node, dir, name);
    const known = this.#linked.get(node);
    if (known !== undefined) return known;
    const { home } = node;
    if (home !== undefined && (home.dir !== dir.node || home.name !== name)) {
      this.#later.push([dir, place, node]);
      // Until its first name is met.
      return dir;
    }
    const inode = this.#make(node, dir, name);
    this.#linked.set(node, inode);
    return inode;
  }

  /** A whiteout of the root: what overlayfs shows there must not be the folders of the object store below it. */
  #cover(root: ComposefsInode): ComposefsInode {
    const { uid, gid, mtime, mtimeNsec } = root;
    const mode = S.IFCHR | 0o644;
    const fields = { mode, uid, gid, mtime, mtimeNsec, links: 1, size: 0 };
    const inode = new ComposefsInode(undefined, root, fields);
    const label = root.node?.xattrs?.get('security.selinux');
    if (label !== undefined) inode.xattrs = [this.#xattrs.use('security.selinux', latin1(label))];
    this.#inodes.push(inode);
    return inode;
  }

  #make(node: TreeNode, parent: ComposefsInode | undefined, name: string): ComposefsInode {
    const covers = isWhiteout(node);
    const inode = new ComposefsInode(node, parent, {
      mode: covers ? S.IFREG | (node.mode & ~S.IFMT) : node.mode,
      uid: node.uid,
      gid: node.gid,
      mtime: node.mtime,
      mtimeNsec: node.mtimeNsec,
      links: this.#links(node),
      size: covers ? 0 : node.size,
    });
    try {
      inode.xattrs = this.#xattrsOf(inode, covers, parent === undefined);
    } catch (error) {
      const path = parent === undefined ? '/' : `${parent.path}/${name}`.replace('//', '/');
      throw new RangeError(`${show(path)}: ${(error as Error).message}`, { cause: error });
    }
    this.#inodes.push(inode);
    return inode;
  }

  #links(node: TreeNode): number {
    // Directories first: a dump may say anything.
    if (node.entries !== undefined) return node.links;
    if (this.#splitLinks) return 1;
    return node.statedLinks ?? node.links;
  }

  #xattrsOf(inode: ComposefsInode, covers: boolean, isRoot: boolean): readonly ComposefsXattr[] {
    const node = inode.node as TreeNode;
    const marks = this.#marks(node, covers);
    const items: ComposefsXattr[] = [];
    for (const [given, value] of node.xattrs ?? []) {
      const name = given.startsWith(OVERLAY) ? ESCAPED + given.slice(OVERLAY.length) : given;
      if (given === 'system.posix_acl_access' || given === 'system.posix_acl_default') {
        this.#hasAcl = true;
      }
      if (marks?.some(([mark]) => mark === name) !== true) {
        items.push(this.#xattrs.use(name, latin1(value)));
      }
    }
    for (const [name, value] of marks ?? []) items.push(this.#xattrs.use(name, value));
    if (inode.isExternal) {
      const { digest, backing } = node;
      if (digest !== undefined && digest.length !== 64) {
        throw new RangeError('its digest is none of SHA-256, the only ones that images hold');
      }
      const record = digest === undefined ? '' : latin1(metacopyOf(digest));
      items.push(this.#xattrs.use(METACOPY, record));
      if (backing !== undefined && backing.path !== '') {
        items.push(this.#xattrs.use(REDIRECT, `/${backing.path}`));
      }
    }
    if (isRoot) items.push(this.#xattrs.use(`${OVERLAY}opaque`, 'y'));
    return items.sort(byName);
  }

  /** Marks of whiteouts and of directories that hold them; they replace what the tree has under their names. */
  #marks(node: TreeNode, covers: boolean): (readonly [string, string])[] | undefined {
    if (covers) return [ESCAPED, USER].map((prefix) => [`${prefix}whiteout`, '']);
    if (node.entries === undefined || !this.#holdsWhiteout(node)) return undefined;
    const marks = [ESCAPED, USER].map((prefix) => [`${prefix}whiteouts`, ''] as const);
    if (this.#version === 0) return marks;
    return [...marks, ...[ESCAPED, USER].map((prefix) => [`${prefix}opaque`, 'x'] as const)];
  }

  /** Whether one is at home here: further names of a hard link do not count. */
  #holdsWhiteout(dir: TreeNode): boolean {
    for (const [name, node] of dir.entries as Map<string, TreeNode>) {
      if (!isWhiteout(node)) continue;
      if (node.links <= 1 || this.#splitLinks || node.home === undefined) return true;
      if (node.home.dir === dir && node.home.name === name) return true;
    }
    return false;
  }
}

const latin1 = (bytes: Uint8Array): string =>
  Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length).toString('latin1');

function hasWhiteout(tree: TreeNode): boolean {
  const pending = [tree];
  for (let dir = pending.pop(); dir !== undefined; dir = pending.pop()) {
    for (const node of (dir.entries as Map<string, TreeNode>).values()) {
      if (isWhiteout(node)) return true;
      if (node.entries !== undefined) pending.push(node);
    }
  }
  return false;
}
