// Where a renamed directory or a metacopy file finds what it was: the value of the redirect xattr.
// Written by rename and copy-up; lookup reads it.
// Follows: fs/overlayfs/dir.c (ovl_get_redirect): a name when it stays in its directory, else a path from the layer's root.

import { emptyPath } from '../linux/files.js';
import { u8 } from '../linux/memory.js';
import { setxattrAt } from '../linux/xattr.js';
import { D, dirGet } from '../layer/layer.js';
import { E } from '../linux/errno.js';
import { nameAt, nameLength } from '../vfs/names.js';
import { F, FLAG, get, setFlag } from '../vfs/nodes.js';
import type { Overlay } from './context.js';
import { stackAt } from './stacks.js';
import { PATH_2 } from './work.js';

/** Longest redirect, bytes (OVL_REDIRECT_MAX). */
const REDIRECT_MAX = 256;
const PATH_MAX = 4096;

/** Writes "/" + the path of `name` in layer directory `dir` to PATH_2; returns its length, or -ENAMETOOLONG. */
function layerPath(dir: number, name: number): number {
  const parts: number[] = name === 0 ? [] : [name];
  for (let at = dir; dirGet(at, D.parent) !== 0; at = dirGet(at, D.parent)) {
    parts.push(dirGet(at, D.name));
  }
  let end = PATH_2;
  for (let i = parts.length - 1; i >= 0; i--) {
    const ref = parts[i] as number;
    const length = nameLength(ref);
    if (end + length + 2 > PATH_2 + PATH_MAX) return -E.NAMETOOLONG;
    u8[end++] = 0x2f;
    u8.copyWithin(end, nameAt(ref), nameAt(ref) + length);
    end += length;
  }
  u8[end] = 0;
  return end - PATH_2;
}

/**
 * Marks the upper directory of node `slot` with the path of its topmost lower directory.
 * @returns 0 or -errno (EXDEV when the path is too long for a redirect).
 */
export function setDirRedirect(o: Overlay, slot: number): number {
  const upper = o.upper as NonNullable<Overlay['upper']>;
  const length = layerPath(stackAt(slot, 0), 0);
  if (length < 0 || length > REDIRECT_MAX * 16) return -E.XDEV;
  const fd = upper.fd(get(slot, F.upper));
  const r = setxattrAt(fd, emptyPath(), o.marks.redirect, PATH_2, length, 0);
  if (r >= 0) setFlag(slot, FLAG.REDIRECT);
  return r < 0 ? (r === -E.NOSPC || r === -E.RANGE ? -E.XDEV : r) : 0;
}

/** Marks a metacopy file (`name` below `dirfd`) with the path of its data in the lower layers. */
export function setDataRedirect(o: Overlay, slot: number, dirfd: number, name: number): number {
  const length = layerPath(get(slot, F.lower), get(slot, F.lowerName) || get(slot, F.name));
  if (length < 0) return length;
  return setxattrAt(dirfd, name, o.marks.redirect, PATH_2, length, 0);
}

