// A layer in the form of overlayfs becomes one in the form of OCI images: `.wh.NAME` files in place of devices and marks.
// Called where a tar archive for container engines is written; the tree is the caller's and is changed in place.
// Follows: OCI image-spec v1.1, layer.md, "Whiteouts" and "Opaque Whiteout".

import { S } from '../linux/constants.js';
import { add, isWhiteout, makeNode, remove, type TreeNode, walk } from '../tree/tree.js';
import { marksOf, withoutMarks } from './marks.js';
import type { Union } from './union.js';
import type { MarkPrefix } from './view.js';

const WHITEOUT = '.wh.';
const OPAQUE = '.wh..wh..opq';

/** @returns the first path whose own name means a whiteout there, so that no such archive can hold it; then half is done. */
export function toOciForm(root: TreeNode, marks: MarkPrefix): string | undefined {
  const whiteouts: { dir: TreeNode; name: string }[] = [];
  const opaque: TreeNode[] = [];
  /** Whose attributes are in the form of users: a hard link is met under each of its names. */
  const plain = new Set<TreeNode>();
  let reserved: string | undefined;
  walk(root, (path, node, parent, name) => {
    if (parent !== undefined && isWhiteout(node)) whiteouts.push({ dir: parent, name });
    else if (name.startsWith(WHITEOUT)) reserved ??= path.slice(1);
    if (marksOf(node, marks).opaque === 'y') opaque.push(node);
    if (!plain.has(node)) node.xattrs = withoutMarks(node.xattrs, marks);
    plain.add(node);
  });
  if (reserved !== undefined) return reserved;
  for (const { dir, name } of whiteouts) {
    remove(dir, name);
    addMark(dir, WHITEOUT + name);
  }
  for (const dir of opaque) addMark(dir, OPAQUE);
  return undefined;
}

/** Not by add(): that of a long name is longer than any file's may be, and is none once it is applied. */
function addMark(dir: TreeNode, name: string): void {
  const mark = makeNode(S.IFREG);
  mark.links = 1;
  dir.entries?.set(name, mark);
}

/**
 * Takes out sockets, which no archive holds; a whiteout takes the place of one that hid something.
 * @param before what the layer is put over. @returns how many there were.
 */
export function removeSockets(root: TreeNode, marks: MarkPrefix, before: Union): number {
  let sockets = 0;
  /** A directory that hides everything below anyway. */
  let closed: string | undefined;
  walk(root, (path, node, parent, name) => {
    if (closed !== undefined && !path.startsWith(`${closed}/`)) closed = undefined;
    if (closed === undefined && marksOf(node, marks).opaque === 'y') closed = path;
    if (parent === undefined || (node.mode & S.IFMT) !== S.IFSOCK) return;
    remove(parent, name);
    sockets++;
    const hid = closed === undefined && before.layers.length > 0 && before.at(path.slice(1));
    if (hid) add(parent, name, makeNode(S.IFCHR));
  });
  return sockets;
}

/**
 * The way back: `.wh.NAME` becomes a whiteout, `.wh..wh..opq` an opaque mark. Where an archive has both the name and its
 * whiteout, the name counts. @param marks under which names the marks are written: all of them.
 */
export function fromOciForm(root: TreeNode, marks: readonly MarkPrefix[]): void {
  walk(root, (_path, _node, parent, name) => {
    if (parent === undefined || !name.startsWith(WHITEOUT)) return true;
    remove(parent, name);
    const hidden = name.slice(WHITEOUT.length);
    if (name === OPAQUE) {
      const opaque = marks.map((mark) => [`${mark}opaque`, Buffer.from('y')] as const);
      const all = [...(parent.xattrs ?? []), ...opaque];
      parent.xattrs = new Map(all.sort(([a], [b]) => (a < b ? -1 : 1)));
    } else if (hidden !== '' && parent.entries?.has(hidden) !== true) {
      add(parent, hidden, makeNode(S.IFCHR));
    }
    return false;
  });
}
