// An image as a tree in memory: names and metadata, contents left where they are.
// Made for dump and extract, which take any tree; nothing that serves a mount does this.
// Follows: the tree of tree/tree.ts; hard links are the names of one nid.

import { S } from '../linux/constants.js';
import { add, makeNode, type TreeNode } from '../tree/tree.js';
import { corrupt } from './errors.js';
import type { ErofsImage, Inode } from './image.js';

/** Makes a node of an inode. @returns undefined for what is not part of the tree. */
export type NodeMaker = (image: ErofsImage, inode: Inode) => TreeNode | undefined;

/**
 * @param from the directory (or other object) that becomes the root.
 * @param make what each inode becomes; by default, what the image says.
 * @throws ErofsError.
 */
export function imageTree(image: ErofsImage, from: Inode, make: NodeMaker = nodeOfInode): TreeNode {
  const root = make(image, from) ?? nodeOfInode(image, from);
  const known = new Map<number, TreeNode>([[from.nid, root]]);
  const pending: [Inode, TreeNode][] = [[from, root]];
  for (let next = pending.pop(); next !== undefined; next = pending.pop()) {
    const [inode, dir] = next;
    if (dir.entries === undefined) continue;
    image.children(inode, (name, nid) => {
      const text = Buffer.from(name).toString('latin1');
      const seen = known.get(nid);
      if (seen?.entries !== undefined) {
        corrupt('erofs_dirent', 'nid', inode.at, `directory ${nid} has two names`);
      }
      if (seen !== undefined) {
        add(dir, text, seen);
        return;
      }
      const child = image.inode(nid);
      const node = make(image, child);
      if (node === undefined) return;
      known.set(nid, node);
      add(dir, text, node);
      if (node.entries !== undefined) pending.push([child, node]);
    });
  }
  return root;
}

/** A node as the image says. */
export function nodeOfInode(
  image: ErofsImage,
  inode: Inode,
  found = image.xattrs(inode),
): TreeNode {
  const type = inode.mode & S.IFMT;
  const xattrs =
    found.length === 0 ? undefined : new Map(found.map(({ name, value }) => [name, value]));
  return makeNode(inode.mode, {
    uid: inode.uid,
    gid: inode.gid,
    mtime: inode.mtime,
    mtimeNsec: inode.mtimeNsec,
    rdev: inode.rdev,
    xattrs,
    size: type === S.IFREG || type === S.IFLNK ? inode.size : 0,
    content: type === S.IFREG && inode.size > 0 ? contentOf(image, inode) : undefined,
    target: type === S.IFLNK ? image.readlink(inode) : undefined,
  });
}

function contentOf(image: ErofsImage, inode: Inode): TreeNode['content'] {
  const extents = [...image.extents(inode)].map(({ at, length }) => ({ at, length }));
  return {
    extents,
    open: () => ({
      size: inode.size,
      read(at, out) {
        image.read(inode, out, at);
      },
      close() {},
    }),
  };
}
