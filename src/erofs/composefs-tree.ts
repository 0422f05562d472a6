// A composefs image as the tree that it was made of: marks read and taken away, whiteouts as devices again.
// Called by `image dump` and by store/; composefs-inodes.ts is the way there, to-tree.ts shows an image as it is.
// Follows: what composefs-info of composefs 1.0.8 prints of an image (xattrs as they lie there: the file's own, then those it
// shares), but for the marks of directories with whiteouts, which it leaves, and the home of hard links, which it does not tell.

import { S } from '../linux/constants.js';
import { type Backing, isWhiteout, sortedNames, type TreeNode } from '../tree/tree.js';
import { digestOf, ESCAPED, METACOPY, OVERLAY, REDIRECT, USER } from './composefs-marks.js';
import { corrupt } from './errors.js';
import { Layout } from './format.js';
import type { ErofsImage, Inode } from './image.js';
import { imageTree, nodeOfInode } from './to-tree.js';

const WHITEOUT = `${ESCAPED}whiteout`;
const USER_WHITEOUT = `${USER}whiteout`;

/** @param image one whose superblock has a composefsVersion. @throws ErofsError. */
export function composefsTree(image: ErofsImage): TreeNode {
  const nids = new Map<TreeNode, number>();
  let isLinked = false;
  const root = imageTree(image, image.inode(image.rootNid), (of, inode) => {
    const node = composefsNode(of, inode);
    if (node !== undefined) nids.set(node, inode.nid);
    return node;
  });
  for (const node of nids.keys()) isLinked ||= node.entries === undefined && node.links > 1;
  if (isLinked) findHomes(root, nids);
  const isNew = (image.superblock.composefsVersion ?? 0) >= 1;
  const pending = [root];
  for (let dir = pending.pop(); dir !== undefined; dir = pending.pop()) {
    let holds = false;
    for (const node of dir.entries?.values() ?? []) {
      if (node.entries !== undefined) pending.push(node);
      else holds ||= isWhiteout(node) && (node.home === undefined || node.home.dir === dir);
    }
    if (holds) takeMarks(dir, isNew);
  }
  return root;
}

/**
 * Tells which name of a hard link is the object's own: inodes lie in the order of their homes, directory after directory,
 * breadth first, names sorted. Where they do not, somebody else wrote the image, and no name is told from the others.
 */
function findHomes(root: TreeNode, nids: ReadonlyMap<TreeNode, number>): void {
  const order = [...nids].sort((a, b) => a[1] - b[1]).map(([node]) => node);
  const found: TreeNode[] = [];
  let next = order[0] === root ? 1 : 0;
  let isOurs = true;
  const dirs = [root];
  for (const dir of dirs) {
    for (const name of sortedNames(dir)) {
      const node = dir.entries?.get(name) as TreeNode;
      const isLinked = node.entries === undefined && node.links > 1;
      if (node === order[next]) {
        next++;
        if (isLinked) {
          node.home = { dir, name };
          found.push(node);
        }
      } else if (!isLinked) {
        isOurs = false;
      }
      if (node.entries !== undefined) dirs.push(node);
    }
  }
  if (isOurs && next === order.length) return;
  for (const node of found) node.home = undefined;
}

/** Takes away what the writer added to a directory with whiteouts. */
function takeMarks(dir: TreeNode, isNew: boolean): void {
  const xattrs = new Map(dir.xattrs);
  for (const prefix of [OVERLAY, USER]) {
    xattrs.delete(`${prefix}whiteouts`);
    const opaque = xattrs.get(`${prefix}opaque`);
    if (isNew && opaque?.length === 1 && opaque[0] === 0x78) xattrs.delete(`${prefix}opaque`);
  }
  dir.xattrs = xattrs.size === 0 ? undefined : xattrs;
}

/** @returns undefined for the whiteouts that hide the object store. */
function composefsNode(image: ErofsImage, inode: Inode): TreeNode | undefined {
  const type = inode.mode & S.IFMT;
  if (type === S.IFCHR && inode.rdev === 0) {
    if (inode.nlink > 1) {
      corrupt('erofs_inode', 'i_nlink', inode.at, `a whiteout with ${inode.nlink} names`);
    }
    return undefined;
  }
  const xattrs = new Map<string, Uint8Array>();
  let isCover = false;
  let backing: Backing | undefined;
  let digest: string | undefined;
  for (const { name, value } of image.xattrs(inode, true)) {
    if (name === REDIRECT) {
      if (type === S.IFREG) backing = { path: pathOf(value) };
    } else if (name === METACOPY) {
      if (type === S.IFREG) digest = digestOf(value);
    } else if (name === WHITEOUT && type === S.IFREG) {
      isCover = true;
    } else if (name.startsWith(ESCAPED)) {
      xattrs.set(OVERLAY + name.slice(ESCAPED.length), value);
    } else if (!name.startsWith(OVERLAY)) {
      xattrs.set(name, value);
    }
  }
  if (isCover) xattrs.delete(USER_WHITEOUT);
  const node = nodeOfInode(image, inode, []);
  node.xattrs = xattrs.size === 0 ? undefined : xattrs;
  node.statedLinks = inode.nlink;
  node.size = inode.size;
  if (isCover) {
    node.mode = S.IFCHR | (inode.mode & ~S.IFMT);
    node.rdev = 0;
    node.size = 0;
  }
  if (isCover || inode.layout === Layout.CHUNK_BASED) node.content = undefined;
  node.backing = backing;
  node.digest = digest;
  return node;
}

/** As a path below the object store. */
function pathOf(redirect: Uint8Array): string {
  const path = Buffer.from(redirect.buffer, redirect.byteOffset, redirect.length).toString(
    'latin1',
  );
  return path.length > 1 && path.startsWith('/') ? path.slice(1) : path;
}
