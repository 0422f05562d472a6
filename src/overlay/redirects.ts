// Where a renamed directory or a metacopy file finds what it was: the value of the redirect xattr.
// Written by rename and copy-up; lookup reads it.
// Follows: fs/overlayfs/dir.c (ovl_get_redirect): a name when it stays in its directory, else a path from the layer's root.

import { E } from '../linux/errno.js';
import { emptyPath } from '../linux/files.js';
import { cstrlen, getBytes, putBytes, u8 } from '../linux/memory.js';
import { getxattrAt, setxattrAt } from '../linux/xattr.js';
import { nameAt, nameLength } from '../vfs/names.js';
import { F, FLAG, get, hasFlag, ROOT, setFlag } from '../vfs/nodes.js';
import type { Overlay } from './context.js';
import { PATH_2, XATTR_VALUE } from './work.js';

const PATH_MAX = 4096;

const SLASH = 0x2f;

/**
 * The path that leads to directory node `slot` in the lowers, as if nothing had been renamed in the upper; "" for the root.
 * Not where one lower has it: a lower above may have moved that place, and lookup follows the moves on the way down.
 * @returns one code unit a byte, or -errno.
 */
function lowerPath(o: Overlay, slot: number): string | number {
  let path = '';
  for (let at = slot; at !== ROOT; at = get(at, F.parent)) {
    const ref = get(at, F.name);
    let step = getBytes(nameAt(ref), nameLength(ref));
    if (hasFlag(at, FLAG.REDIRECT)) {
      const upper = o.upper as NonNullable<Overlay['upper']>;
      const dir = get(at, F.upper);
      const n = upper.getxattr(dir, emptyPath(), o.marks.redirect, XATTR_VALUE, PATH_MAX);
      if (n < 0) return n;
      step = getBytes(XATTR_VALUE, n);
      if (step.startsWith('/')) return step + path;
    }
    path = `/${step}${path}`;
  }
  return path;
}

/** Writes a redirect; a path that is too long for one is EXDEV, so that the caller copies. */
function writeRedirect(o: Overlay, dirfd: number, name: number, path: string | number): number {
  if (typeof path === 'number') return path;
  if (path.length >= PATH_MAX) return -E.XDEV;
  const length = putBytes(PATH_2, path);
  const r = setxattrAt(dirfd, name, o.marks.redirect, PATH_2, length, 0);
  return r === -E.NOSPC || r === -E.RANGE ? -E.XDEV : r;
}

/**
 * Marks the upper directory of node `slot`, which is about to be moved, with the path of what it merges.
 * @returns 0 or -errno.
 */
export function setDirRedirect(o: Overlay, slot: number): number {
  const upper = o.upper as NonNullable<Overlay['upper']>;
  const path = lowerPath(o, slot);
  const r = writeRedirect(o, upper.fd(get(slot, F.upper)), emptyPath(), path);
  if (r >= 0) setFlag(slot, FLAG.REDIRECT);
  return r;
}

/**
 * Marks a metacopy file that is about to get another place (`name` in directory node `parent`, still its old place)
 * with the path of what it was copied from. That is its metadata's path, not its data's: the kernel looks for data-only
 * layers only from the redirect of a lower object. An absolute path stays right wherever the file goes.
 */
export function setDataRedirect(o: Overlay, parent: number, dirfd: number, name: number): number {
  const n = getxattrAt(dirfd, name, o.marks.redirect, XATTR_VALUE, PATH_MAX);
  if (n > 0 && u8[XATTR_VALUE] === SLASH) return 0;
  const file = n > 0 ? getBytes(XATTR_VALUE, n) : getBytes(name, cstrlen(name));
  const folder = lowerPath(o, parent);
  return writeRedirect(o, dirfd, name, typeof folder === 'number' ? folder : `${folder}/${file}`);
}
