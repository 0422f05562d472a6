// Removal: unlink and rmdir, whiteouts over what lies below, and what stays reachable because it is still in use.
// Rename uses the same steps for the object it replaces.
// Follows: fs/overlayfs/dir.c (ovl_do_remove, ovl_remove_and_whiteout, ovl_check_empty_and_clear).

import type { Layer } from '../layer/layer.js';
import { AT, DT, O, S } from '../linux/constants.js';
import { E } from '../linux/errno.js';
import { close, emptyPath, mknodAt, openAt, renameAt, unlinkAt } from '../linux/files.js';
import { getBytes } from '../linux/memory.js';
import { getxattrAt } from '../linux/xattr.js';
import { ABSENT, type Request } from '../vfs/filesystem.js';
import { H, get as handleGet } from '../vfs/handles.js';
import { note, noted, publishing } from '../vfs/journal.js';
import { nameAt, nameLength } from '../vfs/names.js';
import {
  clearFlag,
  F,
  FLAG,
  get,
  hasFlag,
  moveName,
  put,
  removeName,
  setFlag,
} from '../vfs/nodes.js';
import type { Overlay } from './context.js';
import { ensureUpper, ensureUpperDir, noteUpperName, openUpper } from './copy-up.js';
import { DirIndex } from './dir-index.js';
import { freeAlias, freeUnused } from './forget.js';
import { keepForSuccessor, keepNothing } from './hide.js';
import { changeUnionLinks } from './links.js';
import { lookupChild } from './lookup.js';
import { isWhiteout } from './objects.js';
import { encodeOrigin, indexName } from './origin.js';
import { childOf, isDir, locateLower, nodeOf, resolve, typeOfNode } from './places.js';
import { isEmptyDir, listingChanged } from './readdir.js';
import { layerFor, stackAt, stackLength } from './stacks.js';
import { INDEX_NAME, ORIGIN, RECORD } from './work.js';
import { exchangeForWhiteout, removeTree, stageWhiteout } from './workdir.js';

/**
 * The record (a node or an alias) with this name; looked up when it is not known.
 * @returns slot, ABSENT or -errno.
 */
export function nameRecord(o: Overlay, parent: number, name: number, nameLen: number): number {
  const known = childOf(o, parent, name, nameLen);
  if (known !== 0) return known;
  const r = lookupChild(o, parent, name, nameLen, RECORD);
  return r < 0 ? r : childOf(o, parent, name, nameLen);
}

/** Whether a lower layer of `parent` shows something under this name, so that removing it needs a whiteout. */
export function coversLower(
  o: Overlay,
  parent: number,
  record: number,
  name: number,
  nameLen: number,
): boolean {
  if (record > 0 && hasFlag(record, FLAG.FRESH)) return false;
  const lowers = stackLength(parent);
  if (lowers === 0) return false;
  const index = o.config.aufsWhiteouts ? undefined : o.indexes.get(parent);
  const hash = index === undefined ? 0 : DirIndex.hash(name, nameLen);
  const first = index === undefined ? -1 : index.find(hash);
  for (let i = 0; i < lowers; i++) {
    if (index !== undefined && !index.has(first, hash, i)) continue;
    const dir = stackAt(parent, i);
    const mode = layerFor(o, dir).stat(dir, name);
    if (mode === -E.NOENT) continue;
    return mode < 0 || !isWhiteout(mode);
  }
  return false;
}

/** Whether this very name exists in the upper layer. */
export function nameIsUpper(record: number): boolean {
  const target = resolve(record);
  if (target !== record) return hasFlag(record, FLAG.UPPER);
  if (isDir(record)) return get(record, F.upper) !== 0;
  return hasFlag(record, FLAG.UPPER) && get(record, F.fd) === 0;
}

/**
 * Keeps an upper object reachable that is about to lose its last known name: a directory may still be somebody's
 * working directory, a file somebody's O_PATH descriptor. Open regular files are reached through their handles.
 * Also one whose next name has no link in the upper.
 * @returns whether it opened a descriptor, to be closed again (closeKept) where the name stays after all.
 */
export function keepReachable(o: Overlay, record: number): boolean {
  if (hasFlag(record, FLAG.ALIAS)) return false;
  if (!hasFlag(record, FLAG.UPPER) || get(record, F.fd) !== 0) return false;
  const alias = isDir(record) ? 0 : get(record, F.upper);
  if (alias === 0 ? get(record, F.nlookup) === 0 : hasFlag(alias, FLAG.UPPER)) return false;
  if (isDir(record)) {
    const upper = o.upper as NonNullable<Overlay['upper']>;
    const fd = openAt(
      upper.fd(get(get(record, F.parent), F.upper)),
      nameAt(get(record, F.name)),
      O.PATH | O.NOFOLLOW,
    );
    if (fd >= 0) put(record, F.fd, fd + 1);
    return fd >= 0;
  }
  // Handles of a metacopy file are of its data, which another object has.
  const notByHandle =
    hasFlag(record, FLAG.HASHED_INO) || hasFlag(record, FLAG.METACOPY) || hasUnopened(record);
  // Without a handle somebody may still hold an O_PATH descriptor.
  if (typeOfNode(record) === DT.REG && !notByHandle && get(record, F.handles) !== 0) return false;
  const fd = openUpper(o, record, O.PATH);
  if (fd >= 0) put(record, F.fd, fd + 1);
  return fd >= 0;
}

/** Whether a handle of the node is a predecessor's, not used since. */
function hasUnopened(record: number): boolean {
  for (let h = get(record, F.handles); h !== 0; h = handleGet(h, H.next)) {
    if (handleGet(h, H.fd) === 0) return true;
  }
  return false;
}

/** Closes the descriptor by which an object is reached, for it is reached by its name again. */
export function closeKept(record: number): void {
  const fd = get(record, F.fd);
  if (fd === 0) return;
  close(fd - 1);
  put(record, F.fd, 0);
}

/**
 * Called before a name of a lower object with several is taken away: how many are left is kept with its copy, so that a
 * later mount knows it too (ovl_nlink_start of fs/overlayfs/util.c). @returns 0, PARKED or -errno.
 */
export function keepCount(o: Overlay, record: number): number {
  const target = resolve(record);
  if (isDir(target) || !hasFlag(target, FLAG.LOWER_LINKS) || hasFlag(target, FLAG.UPPER)) return 0;
  return (o.links.get(target) ?? 1) > 1 ? ensureUpper(o, target, 'metadata') : 0;
}

/** The table's side of a removal: the name is gone; the node lives on under another name, or unnamed. */
export function forgetName(o: Overlay, record: number): void {
  listingChanged(o, get(record, F.parent));
  o.filling?.removed();
  const target = resolve(record);
  // The count is stored last: what this name leads to now may be a whiteout or another file.
  if (target !== record) {
    freeAlias(o, record);
    changeUnionLinks(o, target, -1);
    if (hasFlag(target, FLAG.ORPHAN) && o.links.get(target) === 0) dropIndexEntry(o, target);
    return;
  }
  const parent = get(record, F.parent);
  if (!isDir(record)) {
    const alias = get(record, F.upper);
    if (alias !== 0) {
      promoteAlias(o, record, alias);
      changeUnionLinks(o, record, -1);
      return;
    }
  }
  const lower = get(record, F.lower);
  setFlag(record, FLAG.ORPHAN);
  const ref = removeName(record, lower !== 0 && !isDir(record) && get(record, F.lowerName) === 0);
  if (ref !== 0) put(record, F.lowerName, ref);
  changeUnionLinks(o, record, -1);
  if (o.links.get(record) === 0) dropIndexEntry(o, record);
  freeUnused(o, record);
  if (parent !== 0) freeUnused(o, parent);
}

/** Words of the journal: the object that loses a name, and how many it had. */
const NOTE = { slot: 0, generation: 1, links: 2 } as const;

/** Notes the union link count of an object that is about to lose the name `record` (0: none does). */
export function noteLinks(o: Overlay, record: number): void {
  const target = resolve(record);
  const links = o.links.get(target);
  note(NOTE.slot, links === undefined ? 0 : target);
  if (links === undefined) return;
  note(NOTE.generation, get(target, F.generation));
  note(NOTE.links, links);
}

/** The name went in a predecessor's time: the object's count may not have followed. @returns 0. */
export function finishRemoval(o: Overlay): number {
  const slot = noted(NOTE.slot);
  // Not by its nodeid, which may be another number.
  const same = slot !== 0 && get(slot, F.generation) === noted(NOTE.generation);
  const target = same && get(slot, F.flags) !== 0 ? o.settle(slot) : 0;
  if (target !== 0 && o.links.get(target) === noted(NOTE.links)) changeUnionLinks(o, target, -1);
  return 0;
}

/** Another known name becomes the node's own. */
function promoteAlias(o: Overlay, record: number, alias: number): void {
  const parent = get(alias, F.parent);
  const name = nameAt(get(alias, F.name));
  const nameLen = nameLength(get(alias, F.name));
  const aliasUpper = hasFlag(alias, FLAG.UPPER);
  const aliasFresh = hasFlag(alias, FLAG.FRESH);
  const oldParent = get(record, F.parent);
  const keepsLower = get(record, F.lower) !== 0 && get(record, F.lowerName) === 0;
  const ref = moveName(record, parent, name, nameLen, keepsLower);
  if (ref !== 0) put(record, F.lowerName, ref);
  freeAlias(o, alias);
  clearFlag(record, FLAG.FRESH);
  if (aliasFresh) setFlag(record, FLAG.FRESH);
  // A descriptor says that the name has no link in the upper.
  if (aliasUpper) closeKept(record);
  if (oldParent !== 0) freeUnused(o, oldParent);
}

/** No name of an indexed object is left: its index entry goes too. */
function dropIndexEntry(o: Overlay, record: number): void {
  if (!hasFlag(record, FLAG.INDEXED) || o.config.indexFd < 0) return;
  let length: number;
  if (get(record, F.lower) !== 0) {
    const p = locateLower(o, record);
    length = encodeOrigin(p.layer as Layer, p.dir, p.name);
  } else {
    // Found by its upper name: the lower object is known by the mark alone.
    const fd = get(record, F.fd) - 1;
    length = fd < 0 ? fd : getxattrAt(fd, emptyPath(), o.marks.origin, ORIGIN, 256);
  }
  if (length <= 0) return;
  indexName(length);
  unlinkAt(o.config.indexFd, INDEX_NAME);
}

/** Makes a whiteout where nothing is in the upper. */
function putWhiteout(o: Overlay, parent: number, dirfd: number, name: number): number {
  const r = mknodAt(dirfd, name, S.IFCHR, 0);
  if (r < 0 && r !== -E.EXIST) return r;
  setFlag(parent, FLAG.WHITEOUTS);
  noteUpperName(o, parent, name);
  return 0;
}

export function unlink(o: Overlay, r: Request, name: number, nameLen: number): number {
  const parent = nodeOf(o, r);
  if (parent === 0) return -E.STALE;
  const record = nameRecord(o, parent, name, nameLen);
  if (record === ABSENT) return r.redo ? finishRemoval(o) : -E.NOENT;
  if (record < 0) return record;
  if (isDir(resolve(record))) return -E.ISDIR;
  let e = ensureUpperDir(o, parent);
  if (e >= 0) e = keepCount(o, record);
  if (e < 0) return e;
  const upper = o.upper as NonNullable<Overlay['upper']>;
  const dirfd = upper.fd(get(parent, F.upper));
  const covers = coversLower(o, parent, record, name, nameLen);
  const inUpper = nameIsUpper(record);
  const kept = keepReachable(o, record);
  keepForSuccessor(o, record);
  noteLinks(o, record);
  publishing();
  let done: number;
  if (!covers) done = inUpper ? unlinkAt(dirfd, name) : 0;
  else if (!inUpper) done = putWhiteout(o, parent, dirfd, name);
  else done = replaceByWhiteout(o, parent, dirfd, name);
  if (done < 0) {
    keepNothing(o, record);
    if (kept) closeKept(record);
    return done;
  }
  forgetName(o, record);
  return 0;
}

/** Puts a staged whiteout over a file of the upper, in one rename. */
function replaceByWhiteout(o: Overlay, parent: number, dirfd: number, name: number): number {
  const temp = stageWhiteout(o);
  if (temp < 0) return temp;
  const r = renameAt(o.config.workFd, temp, dirfd, name);
  if (r < 0) unlinkAt(o.config.workFd, temp);
  else setFlag(parent, FLAG.WHITEOUTS);
  return r;
}

export function rmdir(o: Overlay, r: Request, name: number, nameLen: number): number {
  const parent = nodeOf(o, r);
  if (parent === 0) return -E.STALE;
  const record = nameRecord(o, parent, name, nameLen);
  if (record === ABSENT && r.redo) return 0;
  if (record < 0) return record === ABSENT ? -E.NOENT : record;
  if (!isDir(record)) return -E.NOTDIR;
  const pure = stackLength(record) === 0;
  if (!pure) {
    const empty = isEmptyDir(o, record);
    if (empty <= 0) return empty < 0 ? empty : -E.NOTEMPTY;
  }
  const e = ensureUpperDir(o, parent);
  if (e < 0) return e;
  const upper = o.upper as NonNullable<Overlay['upper']>;
  const dirfd = upper.fd(get(parent, F.upper));
  const covers = coversLower(o, parent, record, name, nameLen);
  const kept = keepReachable(o, record);
  keepForSuccessor(o, record);
  publishing();
  let done = 0;
  if (get(record, F.upper) === 0) {
    if (covers) done = putWhiteout(o, parent, dirfd, name);
  } else if (covers) {
    // The exchange would take the content along: unlike unlinkat(2), it does not ask.
    const empty = pure ? isEmptyDir(o, record) : 1;
    if (empty <= 0) done = empty < 0 ? empty : -E.NOTEMPTY;
    else done = removeAndWhiteout(o, parent, dirfd, name);
  } else {
    done = unlinkAt(dirfd, name, AT.REMOVEDIR);
    if (done === -E.NOTEMPTY) done = removeHiding(o, record, dirfd, name);
  }
  if (done < 0) {
    keepNothing(o, record);
    if (kept) closeKept(record);
    return done;
  }
  forgetName(o, record);
  return 0;
}

/** Swaps an upper directory for a whiteout, then clears away what it held. */
function removeAndWhiteout(o: Overlay, parent: number, dirfd: number, name: number): number {
  const temp = exchangeForWhiteout(o, dirfd, name);
  if (temp < 0) return temp;
  setFlag(parent, FLAG.WHITEOUTS);
  removeTree(o.config.workFd, textAt(temp));
  return 0;
}

/** An upper directory that shows nothing but still holds whiteouts. */
function removeHiding(o: Overlay, record: number, dirfd: number, name: number): number {
  const empty = isEmptyDir(o, record);
  if (empty <= 0) return empty < 0 ? empty : -E.NOTEMPTY;
  const temp = exchangeForWhiteout(o, dirfd, name);
  if (temp < 0) return temp;
  removeTree(o.config.workFd, textAt(temp));
  return unlinkAt(dirfd, name);
}

function textAt(at: number): string {
  return getBytes(at, 16).replace(/\0.*$/s, '');
}
