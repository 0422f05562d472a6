// Pass 1 of a build: every inode of the image with what is known before its data is stored, in the order of the image.
// Made from a tree by write.ts; write-data.ts then adds where the data lies, layout.ts where the inode lies.
// Follows: erofs_fs.h of Linux 6.18 (compact and extended inodes, dirents).

import { S } from '../linux/constants.js';
import { show, type TreeNode } from '../tree/tree.js';
import { ErofsInodeCompact, ErofsInodeExtended, Layout } from './format.js';
import { directorySize } from './plan-dir.js';
import type { Settings } from './write-options.js';
import { BLOCK } from './write-options.js';
import { type XattrSet, XattrTable } from './xattr-plan.js';

/** i_u of data that takes no block. */
export const NO_BLOCK = 0xffff_ffff;

/** An inode to be. What stands here first comes from the tree; the rest is filled in by the later steps. */
export class InodePlan {
  readonly node: TreeNode | undefined;
  /** A directory that has it, the root itself for the root; with `name` its (first) path. */
  readonly parent: InodePlan;
  readonly name: string;
  readonly mode: number;
  readonly uid: number;
  readonly gid: number;
  readonly mtime: number;
  readonly mtimeNsec: number;
  readonly links: number;
  /** Bytes. */
  size: number;

  /** Of directories, "." and ".." included: names in byte order, and what each stands for. */
  names: readonly string[] = [];
  children: readonly InodePlan[] = [];
  xattrs: XattrSet | undefined = undefined;
  /** 32 or 64 bytes. */
  inodeSize = 0;

  // By write-data.ts: how the data is stored.
  layout: number = Layout.FLAT_PLAIN;
  /** First block, blocks of compressed data, device or chunk format. */
  i_u = NO_BLOCK;
  /** Bytes behind inode and xattrs that are no file data: indexes with their padding before them, or chunk addresses. */
  indexSize = 0;
  /** Bytes of file data behind that, and where the spool has them. */
  tailSize = 0;
  tailAt = 0;
  /** Data kept apart: extents of a compressed file, addresses of a chunked one. */
  stored: unknown = undefined;

  /** Bytes from the start of the metadata area, a multiple of 32; by layout.ts. */
  offset = -1;

  constructor(
    node: TreeNode | undefined,
    parent: InodePlan | undefined,
    name: string,
    attributes: Pick<InodePlan, 'mode' | 'uid' | 'gid' | 'mtime' | 'mtimeNsec' | 'links' | 'size'>,
  ) {
    this.node = node;
    this.parent = parent ?? this;
    this.name = name;
    this.mode = attributes.mode;
    this.uid = attributes.uid;
    this.gid = attributes.gid;
    this.mtime = attributes.mtime;
    this.mtimeNsec = attributes.mtimeNsec;
    this.links = attributes.links;
    this.size = attributes.size;
  }

  get type(): number {
    return this.mode & S.IFMT;
  }

  /** Bytes of inode and xattrs. */
  get headSize(): number {
    return this.inodeSize + (this.xattrs?.size ?? 0);
  }

  /** Slot number; valid once `offset` is. */
  get nid(): number {
    return this.offset / 32;
  }

  /** latin1, beginning with a slash. */
  get path(): string {
    const names: string[] = [];
    for (let at: InodePlan = this; at.parent !== at; at = at.parent) names.push(at.name);
    return `/${names.reverse().join('/')}`;
  }

  /** Stores `size` bytes as they are: full blocks from `block` on, what is left inline where it fits. */
  setFlat(size: number, block: number): void {
    const tail = size % BLOCK;
    const isInline = tail > 0 && this.headSize + tail <= BLOCK;
    const blocks = isInline ? Math.floor(size / BLOCK) : Math.ceil(size / BLOCK);
    this.layout = isInline ? Layout.FLAT_INLINE : Layout.FLAT_PLAIN;
    this.i_u = blocks === 0 ? NO_BLOCK : block;
    this.tailSize = isInline ? tail : 0;
  }
}

/** Blocks that setFlat() takes for data. */
export function flatBlocks(plan: InodePlan): number {
  return Math.ceil((plan.size - plan.tailSize) / BLOCK);
}

export interface ImagePlan {
  readonly root: InodePlan;
  /** All inodes: the entries of a directory follow each other, directories before what is in them. */
  readonly inodes: InodePlan[];
  readonly xattrs: XattrTable;
  /** Shared xattrs, whole blocks. */
  readonly sharedXattrs: Uint8Array;
  /** Time of compact inodes. */
  readonly epoch: number;
  readonly epochNsec: number;
}

/** @throws RangeError that names the path, for what EROFS cannot store. */
export function planTree(tree: TreeNode, settings: Settings): ImagePlan {
  const xattrs = new XattrTable(settings.xattrPrefixes);
  const { root, inodes } = walkTree(tree, settings, xattrs);
  let sharedXattrs: Uint8Array;
  try {
    sharedXattrs = xattrs.settle(settings.xattrTolerance);
  } catch (error) {
    // Sets know no path; the one that fails is looked for again.
    throw nameSet(inodes, error);
  }
  const epoch = commonTime(inodes);
  for (const plan of inodes) {
    plan.inodeSize = isCompact(plan, epoch) ? ErofsInodeCompact.size : ErofsInodeExtended.size;
  }
  return { root, inodes, xattrs, sharedXattrs, epoch: epoch.seconds, epochNsec: epoch.nsec };
}

function walkTree(
  tree: TreeNode,
  settings: Settings,
  xattrs: XattrTable,
): { root: InodePlan; inodes: InodePlan[] } {
  const inodes: InodePlan[] = [];
  const linked = new Map<TreeNode, InodePlan>();
  const make = (node: TreeNode, parent: InodePlan | undefined, name: string): InodePlan => {
    const known = node.links > 1 ? linked.get(node) : undefined;
    if (known !== undefined) return known;
    const plan = planNode(node, parent, name, settings);
    if (node.links > 1 && node.entries === undefined) linked.set(node, plan);
    if (node.xattrs !== undefined && node.xattrs.size > 0) {
      try {
        plan.xattrs = xattrs.add(node.xattrs);
      } catch (error) {
        throw at(plan, error);
      }
    }
    inodes.push(plan);
    return plan;
  };
  const root = make(tree, undefined, '');
  if (root.type !== S.IFDIR) throw new RangeError('the root of a tree must be a directory');
  const pending = [root];
  for (let dir = pending.pop(); dir !== undefined; dir = pending.pop()) {
    const entries = dir.node?.entries as Map<string, TreeNode>;
    const names = ['.', '..', ...entries.keys()].sort();
    const below: InodePlan[] = [];
    const children: InodePlan[] = [];
    for (const name of names) {
      if (name === '.') children.push(dir);
      else if (name === '..') children.push(dir.parent);
      else {
        const child = make(entries.get(name) as TreeNode, dir, name);
        children.push(child);
        if (child.type === S.IFDIR) below.push(child);
      }
    }
    dir.names = names;
    dir.children = children;
    dir.size = directorySize(names);
    while (below.length > 0) pending.push(below.pop() as InodePlan);
  }
  return { root, inodes };
}

function planNode(
  node: TreeNode,
  parent: InodePlan | undefined,
  name: string,
  settings: Settings,
): InodePlan {
  const type = node.mode & S.IFMT;
  let size = 0;
  if (type === S.IFREG) size = node.size;
  else if (type === S.IFLNK) size = node.target?.length ?? 0;
  const plan = new InodePlan(node, parent, name, {
    mode: node.mode,
    uid: settings.uid ?? node.uid,
    gid: settings.gid ?? node.gid,
    mtime: settings.time ?? node.mtime,
    mtimeNsec: settings.time === undefined ? node.mtimeNsec : 0,
    links: node.statedLinks ?? node.links,
    size,
  });
  if (type === S.IFCHR || type === S.IFBLK) plan.i_u = node.rdev;
  else if (type === S.IFIFO || type === S.IFSOCK) plan.i_u = 0;
  else if (type === S.IFLNK && size === 0) throw at(plan, new RangeError('the symlink is empty'));
  else if (type !== S.IFREG && type !== S.IFLNK && type !== S.IFDIR) {
    throw at(plan, new RangeError(`mode ${node.mode.toString(8)} is no type of file`));
  }
  return plan;
}

function at(plan: InodePlan, error: unknown): Error {
  const reason = error instanceof Error ? error.message : String(error);
  return new RangeError(`${show(plan.path)}: ${reason}`, { cause: error });
}

function nameSet(inodes: readonly InodePlan[], error: unknown): unknown {
  for (const plan of inodes) {
    try {
      plan.xattrs?.measure();
    } catch (again) {
      return at(plan, again);
    }
  }
  return error;
}

interface Time {
  readonly seconds: number;
  readonly nsec: number;
}

/** The time that most inodes have, which makes them compact. None before 1970: old readers take the field as unsigned. */
function commonTime(inodes: readonly InodePlan[]): Time {
  const counts = new Map<number, Map<number, number>>();
  let best: Time = { seconds: 0, nsec: 0 };
  let most = 0;
  for (const { mtime, mtimeNsec } of inodes) {
    if (mtime < 0) continue;
    let second = counts.get(mtime);
    if (second === undefined) counts.set(mtime, (second = new Map()));
    const n = (second.get(mtimeNsec) ?? 0) + 1;
    second.set(mtimeNsec, n);
    if (n > most) {
      most = n;
      best = { seconds: mtime, nsec: mtimeNsec };
    }
  }
  return best;
}

function isCompact(plan: InodePlan, epoch: Time): boolean {
  return (
    plan.mtime === epoch.seconds &&
    plan.mtimeNsec === epoch.nsec &&
    plan.uid <= 0xffff &&
    plan.gid <= 0xffff &&
    plan.links <= 0xffff &&
    plan.size <= 0xffff_ffff
  );
}
