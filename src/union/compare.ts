// What of an object is another now: one place for every comparison of what was with what is.
// Used by changes.ts for uppers and by ops/ for three-way decisions.
// Aspects as statx(2) and listxattr(2) have them; content byte by byte.

import { S } from '../linux/constants.js';
import { TreeError } from '../tree/errors.js';
import { dataExtents, dataOfEither, type OpenContent, type TreeNode } from '../tree/tree.js';
import type { Differs } from './change.js';

const CHUNK = 256 * 1024;

export const SAME: Differs = {
  content: false,
  mode: false,
  owner: false,
  xattr: false,
  time: false,
};

/** @param sameBytes the content is known to be equal. Types must be equal. @throws the error of a content. */
export function compareNodes(before: TreeNode, after: TreeNode, sameBytes = false): Differs {
  return {
    content: !sameBytes && !hasSameContent(before, after),
    mode: before.mode !== after.mode,
    owner: before.uid !== after.uid || before.gid !== after.gid,
    xattr: !hasSameXattrs(before.xattrs, after.xattrs),
    time: before.mtime !== after.mtime || before.mtimeNsec !== after.mtimeNsec,
  };
}

/** Whether two objects of one type have the same bytes, target or device number. */
export function hasSameContent(a: TreeNode, b: TreeNode): boolean {
  switch (a.mode & S.IFMT) {
    case S.IFREG:
      return a.size === b.size && (a.size === 0 || hasSameBytes(a, b));
    case S.IFLNK:
      return a.target === b.target;
    case S.IFCHR:
    case S.IFBLK:
      return a.rdev === b.rdev;
    default:
      return true;
  }
}

function hasSameBytes(a: TreeNode, b: TreeNode): boolean {
  let one: OpenContent | undefined;
  let other: OpenContent | undefined;
  try {
    one = a.content?.open();
    other = b.content?.open();
    const left = Buffer.allocUnsafe(CHUNK);
    const right = Buffer.allocUnsafe(CHUNK);
    for (const { at, length } of dataOfEither(a, b, CHUNK)) {
      fill(one, at, left.subarray(0, length));
      fill(other, at, right.subarray(0, length));
      if (!left.subarray(0, length).equals(right.subarray(0, length))) return false;
    }
    return true;
  } catch (error) {
    // Somebody writes to it on a live mount, or its data is in no layer: nobody can call that the same.
    if (error instanceof TreeError) return false;
    throw error;
  } finally {
    one?.close();
    other?.close();
  }
}

/** A file without content is all hole. */
function fill(content: OpenContent | undefined, at: number, out: Buffer): void {
  if (content === undefined) out.fill(0);
  else content.read(at, out);
}

export function hasSameXattrs(a: TreeNode['xattrs'], b: TreeNode['xattrs']): boolean {
  if (a === b) return true;
  if ((a?.size ?? 0) !== (b?.size ?? 0)) return false;
  for (const [name, value] of a ?? []) {
    const other = b?.get(name);
    if (other === undefined || !Buffer.from(value).equals(other)) return false;
  }
  return true;
}

/** Bytes of data that a regular file has, without its holes. */
export function storedBytes(node: TreeNode): number {
  if ((node.mode & S.IFMT) !== S.IFREG) return 0;
  return dataExtents(node).reduce((sum, extent) => sum + extent.length, 0);
}
