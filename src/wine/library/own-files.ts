// The files that a prefix or a layer has of its own, put in order: copies of what lies below, and what every session leaves.
// Used by layer add, commit, put and take, while nobody uses the files.
// Identical copies go by ops/prune.ts: the union shows the same without them.

import { closeSync, openSync } from 'node:fs';
import { O } from '../../linux/constants.js';
import { mapMemory } from '../../linux/memory.js';
import { listNames, unlinkName } from '../../linux/named.js';
import { asStack, findStack, openLayers } from '../../ops/open-stack.js';
import { type Pruned, prune } from '../../ops/prune.js';
import { openBelow } from '../../tree/below.js';
import { removeTree } from '../../tree/remove-tree.js';
import { scan } from '../../tree/scan.js';
import { count } from '../../tree/tree.js';
import { readChanges } from '../../union/changes.js';
import type { Below } from '../prefix/below.js';
import { lowersOf } from './whole-prefix.js';

/**
 * Drops what the layers below show as well: identical files, empty copies of directories, whiteouts of nothing.
 * @throws MountError, SysError; what was dropped before stays so.
 */
export async function dropCopies(driveC: string, below: readonly Below[]): Promise<Pruned> {
  const opened = openLayers(await findStack({ options: [lowersOf(driveC, below)], reads: true }));
  const fd = openSync(driveC, O.RDONLY | O.DIRECTORY);
  try {
    const stack = asStack(opened);
    return prune(stack, readChanges(stack), fd);
  } finally {
    closeSync(fd);
    opened.close();
  }
}

/** Empties the folders for temporary files that a layer brings; no link is followed. */
export function dropTemporary(driveC: string): void {
  mapMemory();
  const root = openSync(driveC, O.RDONLY | O.DIRECTORY);
  try {
    const profiles = within(root, 'users', listNames).map(({ name }) => `users/${name}`);
    const folders = [
      ...['temp', 'Temp'].map((name) => `windows/${name}`),
      ...profiles.flatMap((profile) => [`${profile}/Temp`, `${profile}/AppData/Local/Temp`]),
    ];
    for (const folder of folders) {
      within(root, folder, (fd) => {
        for (const { name } of listNames(fd)) {
          if (unlinkName(fd, name) < 0) removeTree(fd, name);
        }
        return [];
      });
    }
  } finally {
    closeSync(root);
  }
}

/** Does something with a directory, where there is one. */
function within<T>(root: number, path: string, work: (fd: number) => T[]): T[] {
  const fd = openBelow(root, path, O.RDONLY | O.DIRECTORY);
  if (fd < 0) return [];
  try {
    return work(fd);
  } finally {
    closeSync(fd);
  }
}

/** Names below a folder, whiteouts included. */
export function namesIn(folder: string): number {
  const tree = scan(folder);
  tree.close();
  return count(tree.root).names;
}
