// Symlinks in a prefix that lead out of it: the folders of the profile that Wine links to $HOME, and whatever else does.
// Asks the union of the prefix's own drive_c and the layers below it, mounted or not; nothing is followed.
// Follows: create_link() and the like of Wine's dlls/shell32/shellpath.c, which makes the profile's links.

import { asUnion, findStack, openLayers } from '../../ops/open-stack.js';
import { isDirectory } from '../../tree/tree.js';
import type { Place, Union } from '../../union/union.js';

/** A symlink of drive_c whose target is elsewhere. Paths are bytes, as latin1. */
export interface OutwardLink {
  /** Below drive_c. */
  readonly path: string;
  readonly target: string;
  /** A folder of somebody's profile: `users/NAME/...`. */
  readonly profile: boolean;
  /** It is in a layer below, not among the prefix's own files. */
  readonly below: boolean;
}

/** Opens drive_c as the prefix shows it. @param layers topmost first, the own one included. */
export async function withUnion<T>(
  layers: readonly string[],
  use: (union: Union) => T,
): Promise<T> {
  const opened = openLayers(await findStack({ layers }));
  try {
    return use(asUnion(opened));
  } finally {
    opened.close();
  }
}

/**
 * All of them, in order of their paths.
 * @param home the prefix's folder: an absolute link that stays in its drive_c is none of them.
 */
export function outwardLinks(union: Union, home: string): OutwardLink[] {
  const inside = Buffer.from(`${home}/drive_c`).toString('latin1');
  const found: OutwardLink[] = [];
  const pending: Place[] = [union.root()];
  for (let place = pending.pop(); place !== undefined; place = pending.pop()) {
    for (const child of union.children(place)) {
      const { node } = child.seen;
      if (isDirectory(node)) pending.push(child);
      if (node.target === undefined || !leadsOut(child.path, node.target, inside)) continue;
      found.push({
        path: child.path,
        target: node.target,
        profile: /^users\/[^/]+\/./.test(child.path),
        below: child.spots[0].layer > 0,
      });
    }
  }
  return found.sort((a, b) => (a.path < b.path ? -1 : 1));
}

/** @param inside the absolute path of drive_c. */
function leadsOut(path: string, target: string, inside: string): boolean {
  if (target.startsWith('/')) return target !== inside && !target.startsWith(`${inside}/`);
  let depth = path.split('/').length - 1;
  for (const name of target.split('/')) {
    if (name === '..') depth--;
    else if (name !== '' && name !== '.') depth++;
    if (depth < 0) return true;
  }
  return false;
}
