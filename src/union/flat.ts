// A union as one tree in memory: names, metadata, and content that is opened where it lies.
// Used for what must have everything: flatten and split, and renamed directories that become part of a layer of their own.
// Marks and whiteouts are gone from it; hard links are the names of one node.

import { isDirectory, type TreeNode } from '../tree/tree.js';
import type { Place, Union } from './union.js';

/** @param from the directory that becomes the root; default that of the union. @throws SysError, TreeError, ErofsError. */
export function unionTree(union: Union, from: Place = union.root()): TreeNode {
  return fill(union, from, new Map());
}

/**
 * @param linked nodes of hard-linked objects by identity, of this tree and of others that it shall be part of.
 * @param onLinked told of each that is new there.
 */
export function fill(
  union: Union,
  from: Place,
  linked: Map<string, TreeNode>,
  onLinked: (id: string, place: Place) => void = () => {},
): TreeNode {
  const root = union.node(from);
  const pending: [Place, TreeNode][] = [[from, root]];
  for (let next = pending.pop(); next !== undefined; next = pending.pop()) {
    const [directory, dir] = next;
    for (const place of union.children(directory)) {
      const name = place.path.slice(place.path.lastIndexOf('/') + 1);
      const id = place.seen.links > 1 ? union.identity(place) : '';
      const known = id === '' ? undefined : linked.get(id);
      const node = known ?? union.node(place);
      // As add(), without asking whether names of a directory are names and differ.
      (dir.entries as Map<string, TreeNode>).set(name, node);
      if (isDirectory(node)) {
        dir.links++;
        pending.push([place, node]);
      } else {
        node.links++;
        if (id !== '' && known === undefined) {
          linked.set(id, node);
          onLinked(id, place);
        }
      }
    }
  }
  return root;
}
