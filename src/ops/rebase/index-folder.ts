// The index of hard links that goes with a new upper, and the mark that keeps mounts away while only one of the two is in place.
// Used by publish.ts; the index lies in the work directory, so that it cannot go there with the upper by one rename.
// Follows: fs/overlayfs/super.c (ovl_get_indexdir, and work/incompat, which no kernel passes by).

import { existsSync, mkdirSync, readdirSync, rmdirSync, statSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { O } from '../../linux/constants.js';
import { E, SysError } from '../../linux/errno.js';
import { close, emptyPath, linkAt, syncfs } from '../../linux/files.js';
import { putBytes, scratch } from '../../linux/memory.js';
import { removexattrAt } from '../../linux/xattr.js';
import { openBelow } from '../../tree/below.js';
import { type TreeNode, walk } from '../../tree/tree.js';
import type { MarkPrefix } from '../../union/view.js';
import { indexIn, openPath, upperIn } from './folder.js';

// This thread's scratch: two names, and the name of an xattr.
const NAME_AT = 0x3100;
const ENTRY_AT = 0x3300;
const ATTR_AT = 0xc00;

export const indexOf = (work: string): string => join(work, 'index');

/** stack/open.ts knows the name as well. */
const pendingOf = (work: string): string => join(work, 'work', 'incompat', 'rebase');

/**
 * Makes the index of the new upper in the folder, where the old one has entries or the new one needs them.
 * @param indexed objects by the names of their entries.
 * @returns its inode number; undefined: it would be as empty as it is.
 */
export function makeIndex(
  work: string,
  folder: string,
  root: TreeNode,
  indexed: ReadonlyMap<TreeNode, string>,
): number | undefined {
  const old = indexOf(work);
  if (!existsSync(old)) return undefined;
  // The kernel stages there as well: `#` and a number.
  const isEmpty = readdirSync(old).every((name) => name.startsWith('#'));
  if (indexed.size === 0 && isEmpty) return undefined;
  mkdirSync(indexIn(folder), { mode: 0o700 });
  const from = openPath(upperIn(folder));
  const to = openPath(indexIn(folder));
  try {
    const done = new Set<TreeNode>();
    walk(root, (path, node) => {
      const entry = indexed.get(node);
      if (entry === undefined || done.has(node)) return;
      done.add(node);
      link(from, path.slice(1), to, entry);
    });
  } finally {
    close(from);
    close(to);
  }
  return statSync(indexIn(folder)).ino;
}

function link(from: number, path: string, to: number, entry: string): void {
  const cut = path.lastIndexOf('/');
  const dir = openBelow(from, path.slice(0, Math.max(cut, 0)), O.PATH | O.DIRECTORY);
  if (dir < 0) throw new SysError('open', dir, path);
  putBytes(scratch + NAME_AT, path.slice(cut + 1));
  putBytes(scratch + ENTRY_AT, entry);
  const r = linkAt(dir, scratch + NAME_AT, to, scratch + ENTRY_AT);
  close(dir);
  // Two objects that stand for one of NEW: the first has its entry.
  if (r < 0 && r !== -E.EXIST) throw new SysError('link', r, entry);
}

/** An index belongs to one upper by a mark of the kernel's; without it the next mount takes it as its own. */
export function detachIndex(work: string, prefix: MarkPrefix): void {
  if (!existsSync(indexOf(work))) return;
  const fd = openPath(indexOf(work));
  putBytes(scratch + ATTR_AT, `${prefix}upper`);
  removexattrAt(fd, emptyPath(), scratch + ATTR_AT);
  close(fd);
}

/** From now on nobody mounts the upper with this work directory: overlayfs refuses what it does not know there. */
export function forbidMounts(work: string): void {
  mkdirSync(pendingOf(work), { recursive: true, mode: 0o700 });
  const fd = openPath(pendingOf(work));
  syncfs(fd);
  close(fd);
}

export function permitMounts(work: string): void {
  for (const path of [pendingOf(work), dirname(pendingOf(work))]) {
    try {
      rmdirSync(path);
    } catch {
      // It is not there, or has marks of others.
    }
  }
}
