// Where a renamed directory or a metacopy file finds what it was: the value of the redirect xattr.
// Written by rename and copy-up; lookup reads it.
// Follows: fs/overlayfs/dir.c (ovl_get_redirect): a name when it stays in its directory, else a path from the layer's root.

import { D, dirGet } from '../layer/layer.js';
import { E } from '../linux/errno.js';
import { emptyPath } from '../linux/files.js';
import { cstrlen, u8 } from '../linux/memory.js';
import { getxattrAt, setxattrAt } from '../linux/xattr.js';
import { nameAt, nameLength } from '../vfs/names.js';
import { F, FLAG, get, setFlag } from '../vfs/nodes.js';
import type { Overlay } from './context.js';
import { layerFor, stackAt, stackLength } from './stacks.js';
import { PATH_2, XATTR_VALUE } from './work.js';

/** Longest redirect, bytes (OVL_REDIRECT_MAX). */
const REDIRECT_MAX = 256;
const PATH_MAX = 4096;

const SLASH = 0x2f;

/** Writes "/" + the path of layer directory `dir` to PATH_2 (nothing for the root); its length, or -ENAMETOOLONG. */
function layerPath(dir: number): number {
  const parts: number[] = [];
  for (let at = dir; dirGet(at, D.parent) !== 0; at = dirGet(at, D.parent)) {
    parts.push(dirGet(at, D.name));
  }
  let end = PATH_2;
  for (let i = parts.length - 1; i >= 0; i--) {
    const ref = parts[i] as number;
    const length = nameLength(ref);
    if (end + length + 2 > PATH_2 + PATH_MAX) return -E.NAMETOOLONG;
    u8[end++] = SLASH;
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
  const length = layerPath(stackAt(slot, 0));
  if (length < 0 || length > REDIRECT_MAX * 16) return -E.XDEV;
  const fd = upper.fd(get(slot, F.upper));
  const r = setxattrAt(fd, emptyPath(), o.marks.redirect, PATH_2, length, 0);
  if (r >= 0) setFlag(slot, FLAG.REDIRECT);
  return r < 0 ? (r === -E.NOSPC || r === -E.RANGE ? -E.XDEV : r) : 0;
}

/**
 * Marks a metacopy file that is about to get another place (`name` in directory node `parent`, still its old place)
 * with the path of what it was copied from. That is its metadata's path, not its data's: the kernel looks for data-only
 * layers only from the redirect of a lower object. An absolute path stays right wherever the file goes.
 */
export function setDataRedirect(o: Overlay, parent: number, dirfd: number, name: number): number {
  const n = getxattrAt(dirfd, name, o.marks.redirect, XATTR_VALUE, PATH_MAX);
  if (n > 0 && u8[XATTR_VALUE] === SLASH) return 0;
  let at = name;
  if (n > 0) {
    u8[XATTR_VALUE + n] = 0;
    at = XATTR_VALUE;
  }
  for (let i = 0; i < stackLength(parent); i++) {
    const dir = stackAt(parent, i);
    const mode = layerFor(o, dir).stat(dir, at);
    if (mode === -E.NOENT) continue;
    if (mode < 0) return mode;
    let length = layerPath(dir);
    const nameLen = cstrlen(at);
    if (length < 0 || length + nameLen + 1 > PATH_MAX) return -E.XDEV;
    u8[PATH_2 + length++] = SLASH;
    u8.copyWithin(PATH_2 + length, at, at + nameLen);
    return setxattrAt(dirfd, name, o.marks.redirect, PATH_2, length + nameLen, 0);
  }
  return -E.IO;
}
