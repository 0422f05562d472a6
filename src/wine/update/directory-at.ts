// Directories of a union as a tree that has them and nothing else: what must be there before a file is put into an upper.
// Used by returning-files.ts and take-file.ts, which write such a tree over the upper.
// A tree of tree/tree.ts; marks are left out, and stay where an upper has them.

import { join, nameOf, parentOf } from '../../tree/path.js';
import { add, isDirectory, type TreeNode } from '../../tree/tree.js';
import type { Union } from '../../union/union.js';

/**
 * The directory at a path of the tree, made with all above it as the union shows them.
 * @param root of the tree. @param path latin1. @returns undefined where the union has no directory there.
 */
export function directoryAt(root: TreeNode, path: string, union: Union): TreeNode | undefined {
  let dir = root;
  let at = '';
  for (const name of path === '' ? [] : path.split('/')) {
    at = join(at, name);
    const known = dir.entries?.get(name);
    if (known !== undefined && !isDirectory(known)) return undefined;
    const place = known === undefined ? union.at(at) : undefined;
    if (known === undefined && (place === undefined || !isDirectory(place.seen.node))) {
      return undefined;
    }
    const next = known ?? union.node(place as NonNullable<typeof place>);
    if (known === undefined) add(dir, name, next);
    dir = next;
  }
  return dir;
}

/** Puts a node at a path of the tree. @returns false where there is no directory for it, or something else already. */
export function putAt(root: TreeNode, path: string, node: TreeNode, union: Union): boolean {
  const dir = directoryAt(root, parentOf(path), union);
  if (dir?.entries === undefined || dir.entries.has(nameOf(path))) return false;
  add(dir, nameOf(path), node);
  return true;
}
