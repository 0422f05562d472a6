// What differs between two whole trees, in the form of what an upper has changed.
// For trees that are no layers: an absent name means that it was deleted. `varve diff --trees` shows it.
// Both are walked together in byte order; what is only in one costs what it has, content is read where sizes are equal.

import { S } from '../linux/constants.js';
import { sortedNames, type TreeNode, walk } from '../tree/tree.js';
import type { Change, Status } from './change.js';
import { compareNodes, SAME, storedBytes } from './compare.js';

/** A directory of both trees that is being walked. */
interface Level {
  readonly path: string;
  readonly before: TreeNode | undefined;
  readonly after: TreeNode;
  readonly names: readonly string[];
  next: number;
}

/** All that differs, a directory before what is in it. @throws the error of a content. */
export function treeChanges(before: TreeNode, after: TreeNode): Change[] {
  const changes: Change[] = [];
  const firstNames = new Map<TreeNode, Change>();
  const levels: Level[] = [];

  const enter = (path: string, was: TreeNode | undefined, now: TreeNode): void => {
    const first = now.entries === undefined && now.links > 1 ? firstNames.get(now) : undefined;
    const change = compared(path, was, now, first);
    if (now.links > 1 && now.entries === undefined && first === undefined) {
      firstNames.set(now, change);
    }
    // Objects that are the same on both sides are no change; their directories are looked into nevertheless.
    if (change.status !== '=' || change.differs.time) changes.push(change);
    if (now.entries === undefined) return;
    const old = was?.entries === undefined ? undefined : was;
    const names = new Set([...sortedNames(now), ...(old === undefined ? [] : sortedNames(old))]);
    levels.push({ path, before: old, after: now, names: [...names].sort(), next: 0 });
  };

  enter('', before, after);
  for (let level = levels.at(-1); level !== undefined; level = levels.at(-1)) {
    const name = level.names[level.next++];
    if (name === undefined) {
      levels.pop();
      continue;
    }
    const path = level.path === '' ? name : `${level.path}/${name}`;
    const was = level.before?.entries?.get(name);
    const now = level.after.entries?.get(name);
    if (now !== undefined) enter(path, was, now);
    else if (was !== undefined) {
      walk(was, (below, node) => {
        const gone = below === '/' ? path : path + below;
        changes.push({ path: gone, status: 'D', before: node, differs: SAME, stored: 0 });
      });
    }
  }
  return changes;
}

/** @param first name of the same hard-linked object. @param sameBytes the content is known to be equal. */
export function compared(
  path: string,
  was: TreeNode | undefined,
  now: TreeNode,
  first?: Change,
  sameBytes = false,
): Change {
  const link = first === undefined ? {} : { link: first.path };
  const stored = first === undefined ? storedBytes(now) : 0;
  const common = { path, after: now, stored, ...link };
  if (was === undefined) return { ...common, status: 'A', differs: SAME };
  if ((was.mode & S.IFMT) !== (now.mode & S.IFMT)) {
    return { ...common, status: 'T', before: was, differs: { ...SAME, content: true } };
  }
  const differs = compareNodes(was, now, sameBytes);
  const { content, mode, owner, xattr, time } = differs;
  // A time alone is a change here, as nothing else says that both trees have the object.
  const status: Status = content || mode || owner || xattr || time ? 'M' : '=';
  return { ...common, status, before: was, differs };
}
