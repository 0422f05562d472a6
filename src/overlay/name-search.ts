// The name that is being looked for in the lower layers, and where: redirects and opaque directories change it on the way down.
// Begun by lookup for each name; lookup-dir.ts and metacopy-data.ts go down by it. One at a time: nothing here waits.
// Follows: fs/overlayfs/namei.c (ovl_check_redirect, ovl_lookup_layer).

import { type Layer, retainDir } from '../layer/layer.js';
import { S } from '../linux/constants.js';
import { E } from '../linux/errno.js';
import { emptyPath } from '../linux/files.js';
import { getBytes, putBytes } from '../linux/memory.js';
import type { Overlay } from './context.js';
import { MARK } from './marks.js';
import { hasAufsOpaque, hasAufsWhiteout } from './whiteouts.js';
import { PATH, XATTR_VALUE } from './work.js';

// The name being looked for in the lower layers, and where: changed by redirects on the way down.
export const search = {
  /** Bytes of the name; in PATH after a redirect. */
  name: 0,
  nameLen: 0,
  /** Absolute redirect without its leading slash, as Latin-1; undefined: `name` in the parent's own stack. */
  path: undefined as string | undefined,
  /** An opaque directory or a whiteout on the way hides the layers below this one. */
  stop: false,
  /** The number of the directory that an upper one was copied from, and whether one with it was found below. */
  originLo: 0,
  originHi: 0,
  originMet: false,
};

/**
 * Reads the redirect of an object; sets search.* for the layers below.
 * @param rest what follows the object in search.path, with its leading slash
 * @returns false when it is malformed or escapes (the caller treats the directory as unreadable).
 */
export function readRedirect(
  o: Overlay,
  layer: Layer,
  dir: number,
  name: number,
  rest = '',
): boolean {
  const n = layer.getxattr(dir, name, o.marks.redirect, XATTR_VALUE, 4096);
  if (n <= 0) return n === -E.NODATA;
  const text = getBytes(XATTR_VALUE, n).replace(/\0+$/, '');
  if (text.startsWith('/')) {
    const parts = text.split('/').slice(1);
    if (parts.some((p) => p === '' || p === '.' || p === '..' || p.length > 255)) return false;
    search.path = text.slice(1) + rest;
    // It leads away from what was hidden.
    search.stop = false;
    return true;
  }
  if (text.includes('/') || text === '.' || text === '..' || text.length > 255) return false;
  if (search.path !== undefined) {
    const upToHere = search.path.slice(0, search.path.length - rest.length);
    search.path = upToHere.slice(0, upToHere.lastIndexOf('/') + 1) + text + rest;
  } else {
    search.nameLen = putBytes(PATH, text);
    search.name = PATH;
  }
  return true;
}

/** Puts the last name of search.path in PATH. @returns its length. */
export function lastOfPath(): number {
  const path = search.path as string;
  return putBytes(PATH, path.slice(path.lastIndexOf('/') + 1));
}

/**
 * Walks search.path in one layer but for its last name; symlinks are no directories. Redirects and opaque marks of the
 * directories on the way change search.* for the layers below (ovl_lookup_layer).
 * @returns a directory record with one reference, or -errno (ENOENT: this layer has nothing there).
 */
export function walkToParent(o: Overlay, layer: Layer): number {
  const parts = (search.path as string).split('/');
  let dir = layer.root;
  retainDir(dir);
  for (let i = 0; i < parts.length - 1; i++) {
    const length = putBytes(PATH, parts[i] as string);
    const child = enterOnTheWay(o, layer, dir, length);
    layer.release(dir);
    if (child < 0) return child;
    dir = child;
    if (layer.index >= o.bottom) continue;
    const read = o.marks.read(layer, dir, emptyPath());
    const marks = read < 0 ? 0 : read;
    let e = read === -E.ACCES || read === -E.PERM ? 0 : read;
    if (marks & MARK.OPAQUE || (o.config.aufsWhiteouts && hasAufsOpaque(layer, dir))) {
      search.stop = true;
    } else if (marks & MARK.REDIRECT && o.config.redirectFollow) {
      const rest = `/${parts.slice(i + 1).join('/')}`;
      if (!readRedirect(o, layer, dir, emptyPath(), rest)) e = -E.INVAL;
    }
    if (e < 0) {
      layer.release(dir);
      return e;
    }
  }
  return dir;
}

/** One step of walkToParent(): the directory called PATH. @returns a directory record or -errno. */
function enterOnTheWay(o: Overlay, layer: Layer, dir: number, length: number): number {
  const mode = layer.stat(dir, PATH);
  if (mode < 0) {
    if (mode !== -E.NOENT) return mode;
    if (o.config.aufsWhiteouts && hasAufsWhiteout(layer, dir, PATH, length)) search.stop = true;
    return mode;
  }
  if ((mode & S.IFMT) !== S.IFDIR) {
    search.stop = true;
    return -E.NOENT;
  }
  return layer.enter(dir, PATH, length) || -E.NOMEM;
}

/** For a name of the parent's own stack, from its top. */
export function beginSearch(name: number, nameLen: number): void {
  search.name = name;
  search.nameLen = nameLen;
  search.path = undefined;
  search.stop = false;
}
