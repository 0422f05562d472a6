// From a name in a directory node to a child node: which layers have it, what they merge to, which number it shows.
// The first thing every path walk needs; everything it learns is kept in the node tables.
// Follows: fs/overlayfs/namei.c (ovl_lookup, ovl_lookup_layer, ovl_check_redirect), without its dentries.

import {
  isHiding,
  isTelling,
  type Layer,
  markHiding,
  markTelling,
  retainDir,
} from '../layer/layer.js';
import { DT, O, S } from '../linux/constants.js';
import { E } from '../linux/errno.js';
import { emptyPath, openAt, Statx, statAt, statBuffer } from '../linux/files.js';
import { getBytes, putBytes, u8, u32 } from '../linux/memory.js';
import { getxattrAt } from '../linux/xattr.js';
import { Attr, attrFromStat, ENTRY_SIZE, Entry } from '../vfs/attr.js';
import { Counter, count } from '../vfs/counters.js';
import { ABSENT } from '../vfs/filesystem.js';
import { allocName } from '../vfs/names.js';
import {
  allocNode,
  F,
  FLAG,
  freeNode,
  get,
  handleGeneration,
  hasFlag,
  insertIno,
  insertName,
  nodeidHi,
  nodeidLo,
  put,
  rec,
  setFlag,
} from '../vfs/nodes.js';
import type { Overlay } from './context.js';
import { DirIndex, DirIndexBuilder } from './dir-index.js';
import { dropNode } from './forget.js';
import { readUnionLinks } from './links.js';
import { MARK } from './marks.js';
import { shown } from './numbers.js';
import {
  finishAttr,
  isWhiteout,
  numberFromStat,
  setInoFromStat,
  showAttr,
  statNlink,
  statNode,
} from './objects.js';
import { encodeOrigin, indexName, originNumber } from './origin.js';
import { readOwnNumber } from './own-number.js';
import { childOf, nodeByIno, resolve } from './places.js';
import { layerFor, setStack, stackAt, stackLength } from './stacks.js';
import { INDEX_NAME, LONG_NAME, ORIGIN, PATH, XATTR_VALUE } from './work.js';

/** Fills the ENTRY record at `out` for a node and counts the kernel's new reference. @returns ENTRY_SIZE. */
export function answerEntry(slot: number, out: number): number {
  const k = rec(slot);
  u32[k + F.nlookup] = (u32[k + F.nlookup] as number) + 1;
  const e = out >>> 2;
  u32[e] = nodeidLo(slot);
  u32[e + 1] = nodeidHi(slot);
  u32[e + 2] = handleGeneration(slot);
  u32[e + 3] = 0;
  return ENTRY_SIZE;
}

/** LOOKUP: the child's entry at `out`, counted. @returns ENTRY_SIZE, ABSENT or -errno. */
export function lookup(
  o: Overlay,
  parent: number,
  name: number,
  nameLen: number,
  out: number,
): number {
  const slot = lookupChild(o, parent, name, nameLen, out + Entry.attr);
  return slot < 0 ? slot : answerEntry(slot, out);
}

/**
 * Finds or makes the child node, and writes its ATTR record to `attr`; counts no reference.
 * @returns slot, ABSENT or -errno.
 */
export function lookupChild(
  o: Overlay,
  parent: number,
  name: number,
  nameLen: number,
  attr: number,
): number {
  const known = childOf(o, parent, name, nameLen);
  if (known !== 0) {
    const slot = resolve(known);
    const mode = statNode(o, slot);
    if (mode >= 0) {
      showAttr(o, slot, attr);
      return slot;
    }
    if (mode !== -E.NOENT && mode !== -E.STALE && mode !== -E.NOTDIR) return mode;
    dropNode(o, known);
  }
  if (o.config.aufsWhiteouts && isAufsName(name, nameLen)) return ABSENT;
  if (hasFlag(parent, FLAG.ORPHAN)) return ABSENT;
  const slot = lookupLayers(o, parent, name, nameLen, attr);
  return o.exporting === undefined || slot < 0 ? slot : o.exporting.settle(slot, parent);
}

function isAufsName(name: number, nameLen: number): boolean {
  return (
    nameLen >= 4 &&
    u8[name] === 0x2e &&
    u8[name + 1] === 0x77 &&
    u8[name + 2] === 0x68 &&
    u8[name + 3] === 0x2e
  );
}

/** Lookups in one directory, times its layers, that justify listing it. */
const INDEX_AFTER = 32;

/** The directory's index; built when enough lookups have asked for it; undefined when there is none. */
function indexFor(o: Overlay, parent: number, lowers: number): DirIndex | undefined {
  const index = o.indexes.get(parent);
  if (index !== undefined) return index;
  if (lowers === 1 && get(parent, F.upper) === 0 && !o.config.aufsWhiteouts) return undefined;
  const misses = (o.misses.get(parent) ?? 0) + Math.max(lowers, 1);
  if (misses < INDEX_AFTER) {
    o.misses.set(parent, misses);
    return undefined;
  }
  const built = buildIndex(o, parent, lowers);
  setIndex(o, parent, built);
  return built;
}

/** Lists the directory in every layer. @returns undefined when one cannot be listed, or there are too many names. */
function buildIndex(o: Overlay, parent: number, lowers: number): DirIndex | undefined {
  const builder = new DirIndexBuilder();
  const upperDir = get(parent, F.upper);
  if (upperDir !== 0) {
    const r = (o.upper as Layer).list(upperDir, (name, length) => builder.add(-1, name, length));
    if (r < 0) return undefined;
  }
  for (let i = 0; i < lowers; i++) {
    const dir = stackAt(parent, i);
    const r = layerFor(o, dir).list(dir, (name, length) => builder.add(i, name, length));
    if (r < 0) return undefined;
  }
  return builder.finish();
}

/** Keeps a directory's index; without one it is not tried again. */
export function setIndex(o: Overlay, parent: number, index: DirIndex | undefined): void {
  if (index === undefined) {
    o.misses.set(parent, Number.NEGATIVE_INFINITY);
    return;
  }
  o.misses.delete(parent);
  o.indexes.set(parent, index);
}

// The name being looked for in the lower layers, and where: changed by redirects on the way down.
const search = {
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

/** Lower directories found for a merged directory. */
let merged: number[] = [];

/** While lowersWithout() looks: a directory's lowers in place of those of its node, and the index of the layer left out (0: none). */
const instead = { dirs: undefined as readonly number[] | undefined, without: 0 };

/**
 * What a directory would merge if one layer was not in the stack.
 * @param dirs the lowers that its parent would merge then, topmost first. @param without index of the layer.
 * @param upperDir its directory in the upper, or 0. @param found is given the records, one reference each. @returns 0 or -errno.
 */
export function lowersWithout(
  o: Overlay,
  without: number,
  dirs: readonly number[],
  upperDir: number,
  name: number,
  nameLen: number,
  found: number[],
): number {
  search.name = name;
  search.nameLen = nameLen;
  search.path = undefined;
  search.stop = false;
  merged = [];
  if (upperDir !== 0) {
    const upper = o.upper as Layer;
    const marks = o.marks.read(upper, upperDir, emptyPath());
    if (marks < 0) return marks;
    if (marks & MARK.OPAQUE) return 0;
    if (marks & MARK.REDIRECT && !readRedirect(o, upper, upperDir, emptyPath())) return -E.INVAL;
  }
  instead.dirs = dirs;
  instead.without = without;
  try {
    return collectLowerDirs(o, 0, 0);
  } finally {
    instead.dirs = undefined;
    instead.without = 0;
    found.push(...merged);
  }
}

/** As lookupChild(), for a name that no node has. */
export function lookupLayers(
  o: Overlay,
  parent: number,
  name: number,
  nameLen: number,
  attr: number,
): number {
  const { aufsWhiteouts } = o.config;
  const upperDir = get(parent, F.upper);
  const lowers = stackLength(parent);
  const index = indexFor(o, parent, lowers);
  const hash = index === undefined ? 0 : DirIndex.hash(name, nameLen);

  search.name = name;
  search.nameLen = nameLen;
  search.path = undefined;
  search.stop = false;
  merged = [];

  // In aufs form a whiteout has another name than what it hides: the index says nothing about it.
  if (upperDir !== 0 && (aufsWhiteouts || index === undefined || index.upperNames.has(hash))) {
    const upper = o.upper as Layer;
    const mode = upper.stat(upperDir, name);
    if (mode >= 0) {
      if (isWhiteout(mode)) {
        setFlag(parent, FLAG.WHITEOUTS);
        return ABSENT;
      }
      o.exporting?.born();
      return (mode & S.IFMT) === S.IFDIR
        ? foundUpperDir(o, parent, name, nameLen, attr)
        : foundUpperFile(o, parent, name, nameLen, mode, attr);
    }
    if (mode !== -E.NOENT) return mode;
    if (aufsWhiteouts && hasAufsWhiteout(upper, upperDir, name, nameLen)) return ABSENT;
  }

  const first = index === undefined ? -1 : index.find(hash);
  if (index !== undefined && first < 0 && !aufsWhiteouts) return ABSENT;
  for (let i = 0; i < lowers; i++) {
    if (index !== undefined && !aufsWhiteouts && !index.has(first, hash, i)) continue;
    const dir = stackAt(parent, i);
    const layer = layerFor(o, dir);
    const mode = layer.stat(dir, name);
    if (mode < 0) {
      if (mode !== -E.NOENT) return mode;
      if (aufsWhiteouts && hasAufsWhiteout(layer, dir, name, nameLen)) return ABSENT;
      continue;
    }
    if (isWhiteout(mode) || isXattrWhiteout(o, layer, dir, name, mode)) return ABSENT;
    o.exporting?.born();
    return (mode & S.IFMT) === S.IFDIR
      ? foundLowerDir(o, parent, i, name, nameLen, attr)
      : foundLowerFile(o, parent, layer, dir, name, nameLen, mode, attr);
  }
  return ABSENT;
}

/** `.wh.NAME` beside a missing NAME hides the layers below. */
function hasAufsWhiteout(layer: Layer, dir: number, name: number, nameLen: number): boolean {
  if (nameLen > 251) return false;
  putBytes(LONG_NAME, '.wh.');
  u8.copyWithin(LONG_NAME + 4, name, name + nameLen);
  u8[LONG_NAME + 4 + nameLen] = 0;
  return layer.stat(dir, LONG_NAME) >= 0;
}

const AUFS_OPAQUE = '.wh..wh..opq';

function hasAufsOpaque(layer: Layer, dir: number): boolean {
  putBytes(LONG_NAME, AUFS_OPAQUE);
  return layer.stat(dir, LONG_NAME) >= 0;
}

/** A whiteout in xattr form: an empty regular file with overlay.whiteout, in a directory whose opaque mark is "x". */
export function isXattrWhiteout(
  o: Overlay,
  layer: Layer,
  dir: number,
  name: number,
  mode: number,
): boolean {
  if ((mode & S.IFMT) !== S.IFREG) return false;
  const s = (statBuffer() + Statx.size) >>> 2;
  if (u32[s] !== 0 || u32[s + 1] !== 0 || !isHiding(dir)) return false;
  const kept = u8.slice(statBuffer(), statBuffer() + 256);
  const marks = o.marks.read(layer, dir, name);
  u8.set(kept, statBuffer());
  return marks > 0 && (marks & MARK.WHITEOUT) !== 0;
}

/** Notes what the marks of a layer's root directory say; called once a layer when the overlay starts. */
export function noteRootMarks(o: Overlay, layer: Layer): number {
  const marks = o.marks.read(layer, layer.root, emptyPath());
  if (marks > 0 && marks & MARK.XWHITEOUTS) markHiding(layer.root);
  if (marks > 0 && marks & MARK.NUMBER && layer.index > 0) {
    o.tellers.add(layer.index);
    if (marks & MARK.IMPURE) markTelling(layer.root);
  }
  return marks;
}

/** Allocates the child with its name; frees it again when the name table is full. */
function newNode(parent: number, name: number, nameLen: number, type: number): number {
  const slot = allocNode(type);
  if (slot === 0) return -E.NOMEM;
  if (!insertName(slot, parent, name, nameLen)) {
    freeNode(slot);
    return -E.NOMEM;
  }
  return slot;
}

/**
 * Reads the redirect of an object; sets search.* for the layers below.
 * @param rest what follows the object in search.path, with its leading slash
 * @returns false when it is malformed or escapes (the caller treats the directory as unreadable).
 */
function readRedirect(o: Overlay, layer: Layer, dir: number, name: number, rest = ''): boolean {
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

/** A directory in the upper layer; statBuffer() holds its attributes. */
function foundUpperDir(
  o: Overlay,
  parent: number,
  name: number,
  nameLen: number,
  attr: number,
): number {
  const upper = o.upper as Layer;
  attrFromStat(attr);
  const slot = newNode(parent, name, nameLen, DT.DIR);
  if (slot < 0) return slot;
  setInoFromStat(slot, upper);
  const upperDir = upper.enter(get(parent, F.upper), name, nameLen);
  put(slot, F.upper, upperDir);
  setFlag(slot, FLAG.UPPER);
  const r = readUpperDirMarks(o, parent, slot, upperDir);
  if (r < 0) {
    dropNode(o, slot);
    return r;
  }
  finishAttr(o, slot, attr);
  return slot;
}

/** Opaque, redirect, origin, impure of a new upper directory node; finds the lowers it merges. */
function readUpperDirMarks(o: Overlay, parent: number, slot: number, upperDir: number): number {
  const upper = o.upper as Layer;
  const marks = o.marks.read(upper, upperDir, emptyPath());
  if (marks < 0) return marks;
  if (marks & MARK.IMPURE) setFlag(slot, FLAG.IMPURE);
  if (marks & MARK.DEFAULT_ACL) setFlag(slot, FLAG.DEFAULT_ACL);
  if (marks & MARK.XWHITEOUTS) markHiding(upperDir);
  const aufsOpaque = o.config.aufsWhiteouts && hasAufsOpaque(upper, upperDir);
  if (readNumber(o, upper, upperDir, emptyPath(), marks)) {
    put(slot, F.inoLo, shown.lo);
    put(slot, F.inoHi, shown.hi);
    search.originLo = shown.lo;
    search.originHi = shown.hi;
    // A directory that has its number, but no origin, was copied from a layer that is in the stack no more (fill.ts).
    search.originMet = (marks & MARK.ORIGIN) === 0;
  } else {
    search.originMet = true;
  }
  if (marks & MARK.OPAQUE || aufsOpaque) {
    setFlag(slot, FLAG.OPAQUE);
  } else {
    if (marks & MARK.REDIRECT) {
      if (!o.config.redirectFollow) return -E.PERM;
      if (!readRedirect(o, upper, upperDir, emptyPath())) return -E.INVAL;
      setFlag(slot, FLAG.REDIRECT);
    }
    const r = collectLowerDirs(o, parent, 0);
    if (r < 0) return r;
    if (merged.length > 0) setFlag(slot, FLAG.IMPURE);
    if (!setStack(slot, merged)) return -E.NOMEM;
    const lost = marks & MARK.REDIRECT && merged.length === 0;
    if (lost || !search.originMet) count(Counter.misfits);
  }
  return 0;
}

/** Appends to `merged` the directories that `search` finds in the parent's lowers from stack position `from` on. */
function collectLowerDirs(o: Overlay, parent: number, from: number): number {
  let position = from;
  const { dirs } = instead;
  const lowers = dirs === undefined ? stackLength(parent) : dirs.length;
  while (search.path === undefined && position < lowers) {
    const dir = dirs === undefined ? stackAt(parent, position) : (dirs[position] as number);
    position++;
    const r = mergeLowerDir(o, layerFor(o, dir), dir, search.name, search.nameLen);
    if (r === STOP) return 0;
    if (r < 0) return r;
    if (search.path !== undefined) return collectByPath(o, layerFor(o, dir).index + 1);
  }
  return search.path === undefined ? 0 : collectByPath(o, 1);
}

/** As collectLowerDirs(), for an absolute redirect: from layer `index` on, each from its root. */
function collectByPath(o: Overlay, index: number): number {
  for (let i = index; i <= o.bottom && !search.stop; i++) {
    if (i === instead.without) continue;
    const layer = o.layer(i);
    const walked = walkToParent(o, layer);
    if (walked === -E.NOENT) continue;
    if (walked < 0) return walked;
    const length = lastOfPath();
    const r = mergeLowerDir(o, layer, walked, PATH, length);
    layer.release(walked);
    if (r === STOP) return 0;
    if (r < 0) return r;
  }
  return 0;
}

/** Not an errno: a whiteout, an opaque directory or something else than a directory ends the search. */
const STOP = 1;

/** Adds one lower directory to `merged`, and reads its marks. @returns 0, STOP or -errno. */
function mergeLowerDir(
  o: Overlay,
  layer: Layer,
  dir: number,
  name: number,
  nameLen: number,
): number {
  const mode = layer.stat(dir, name);
  if (mode < 0) {
    if (mode !== -E.NOENT) return mode;
    return o.config.aufsWhiteouts && hasAufsWhiteout(layer, dir, name, nameLen) ? STOP : 0;
  }
  if ((mode & S.IFMT) !== S.IFDIR) return STOP;
  numberFromStat(layer);
  if (shown.lo === search.originLo && shown.hi === search.originHi) search.originMet = true;
  const child = layer.enter(dir, name, nameLen);
  if (child === 0) return -E.NOMEM;
  merged.push(child);
  if (layer.index === o.bottom && !o.tellers.has(layer.index)) {
    // The bottom layer: nothing below that its marks could hide, but xattr whiteouts may lie in it.
    return 0;
  }
  const marks = o.marks.read(layer, child, emptyPath());
  if (marks < 0) return marks === -E.ACCES || marks === -E.PERM ? 0 : marks;
  if (marks & MARK.XWHITEOUTS) markHiding(child);
  if (marks & MARK.IMPURE && o.tellers.has(layer.index)) markTelling(child);
  if (isTelling(dir) && tellsNumber(o, layer, child, emptyPath(), marks)) {
    if (shown.lo === search.originLo && shown.hi === search.originHi) search.originMet = true;
  }
  if (marks & MARK.OPAQUE) return STOP;
  if (o.config.aufsWhiteouts && hasAufsOpaque(layer, child)) return STOP;
  if (marks & MARK.REDIRECT && o.config.redirectFollow) {
    if (!readRedirect(o, layer, child, emptyPath())) return -E.INVAL;
  }
  return search.stop ? STOP : 0;
}

/** Puts the last name of search.path in PATH. @returns its length. */
function lastOfPath(): number {
  const path = search.path as string;
  return putBytes(PATH, path.slice(path.lastIndexOf('/') + 1));
}

/**
 * Walks search.path in one layer but for its last name; symlinks are no directories. Redirects and opaque marks of the
 * directories on the way change search.* for the layers below (ovl_lookup_layer).
 * @returns a directory record with one reference, or -errno (ENOENT: this layer has nothing there).
 */
function walkToParent(o: Overlay, layer: Layer): number {
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

/** Walks directory names in a data-only layer. @returns a directory record with one reference, or -errno. */
function walkDataLayer(layer: Layer): number {
  const parts = (search.path as string).split('/');
  let dir = layer.root;
  retainDir(dir);
  for (const part of parts.slice(0, -1)) {
    const length = putBytes(PATH, part);
    const mode = layer.stat(dir, PATH);
    const child =
      mode < 0 ? mode : (mode & S.IFMT) === S.IFDIR ? layer.enter(dir, PATH, length) : -E.NOTDIR;
    layer.release(dir);
    if (child <= 0) return child || -E.NOMEM;
    dir = child;
  }
  return dir;
}

/** The topmost object is a directory in the lower at stack `position`; statBuffer() holds its attributes. */
function foundLowerDir(
  o: Overlay,
  parent: number,
  position: number,
  name: number,
  nameLen: number,
  attr: number,
): number {
  attrFromStat(attr);
  const slot = newNode(parent, name, nameLen, DT.DIR);
  if (slot < 0) return slot;
  const top = stackAt(parent, position);
  const layer = layerFor(o, top);
  setInoFromStat(slot, layer);
  if (isTelling(top) && readNumber(o, layer, top, name, o.marks.read(layer, top, name))) {
    put(slot, F.inoLo, shown.lo);
    put(slot, F.inoHi, shown.hi);
  }
  const r = collectLowerDirs(o, parent, position);
  if (r < 0 || !setStack(slot, merged)) {
    for (const dir of merged) layerFor(o, dir).release(dir);
    dropNode(o, slot);
    return r < 0 ? r : -E.NOMEM;
  }
  finishAttr(o, slot, attr);
  return slot;
}

/** Something else than a directory in the upper layer; statBuffer() holds its attributes. */
function foundUpperFile(
  o: Overlay,
  parent: number,
  name: number,
  nameLen: number,
  mode: number,
  attr: number,
): number {
  const upper = o.upper as Layer;
  const upperDir = get(parent, F.upper);
  attrFromStat(attr);
  const links = statNlink();
  const type = (mode & S.IFMT) >>> 12;
  numberFromStat(upper);
  let inoLo = shown.lo;
  let inoHi = shown.hi;
  let marks = 0;
  if (hasFlag(parent, FLAG.IMPURE)) {
    marks = o.marks.read(upper, upperDir, name);
    if (marks < 0) return marks;
    if (marks & MARK.WHITEOUT && isHiding(upperDir)) return ABSENT;
    if (readNumber(o, upper, upperDir, name, marks)) {
      inoLo = shown.lo;
      inoHi = shown.hi;
    } else {
      marks &= ~MARK.ORIGIN;
    }
  }
  const known = links > 1 ? nodeByIno(o, inoLo, inoHi) : 0;
  if (known !== 0) return addAlias(o, parent, known, name, nameLen, FLAG.UPPER, attr);
  const slot = newNode(parent, name, nameLen, type);
  if (slot < 0) return slot;
  put(slot, F.inoLo, inoLo);
  put(slot, F.inoHi, inoHi);
  setFlag(slot, FLAG.UPPER);
  if (links > 1 && o.exporting === undefined) insertIno(slot);
  if (marks & MARK.NLINK && o.config.indexFd >= 0) {
    setFlag(slot, FLAG.INDEXED);
    readUnionLinks(o, slot, links);
  }
  if (marks & MARK.METACOPY) {
    const r = findMetacopyData(o, parent, slot, upper, upperDir, name, nameLen, marks);
    if (r < 0 && r !== -E.IO) {
      dropNode(o, slot);
      return r;
    }
    if (r < 0 || !isDataSize(attr)) withoutData(o, slot);
  }
  finishAttr(o, slot, attr);
  return slot;
}

/** Whether the data in statBuffer() has the size that the metadata at `attr` tells. */
function isDataSize(attr: number): boolean {
  const data = (statBuffer() + Statx.size) >>> 2;
  const size = (attr + Attr.size) >>> 2;
  return u32[data] === u32[size] && u32[data + 1] === u32[size + 1];
}

/** The data of a metacopy file is gone, or is that of another file: there is no opening it, but it can be seen and removed. */
function withoutData(o: Overlay, slot: number): void {
  const dir = get(slot, F.lower);
  put(slot, F.lower, 0);
  if (dir !== 0) layerFor(o, dir).release(dir);
  setFlag(slot, FLAG.METACOPY);
  count(Counter.misfits);
}

/** As readNumber(), for an object that is no node's topmost. */
function tellsNumber(o: Overlay, layer: Layer, dir: number, name: number, marks: number): boolean {
  // What it says of handles is nobody's.
  return o.exporting === undefined && readNumber(o, layer, dir, name, marks);
}

/** Number of a copied-up object: its own mark's, or its origin's. Sets `shown`. @returns false when they do not tell. */
function readNumber(o: Overlay, layer: Layer, dir: number, name: number, marks: number): boolean {
  if (marks < 0) return false;
  if (marks & MARK.NUMBER && readOwnNumber(o, layer, dir, name)) return true;
  if ((marks & MARK.ORIGIN) === 0) return false;
  o.exporting?.copied(0);
  const n = layer.getxattr(dir, name, o.marks.origin, ORIGIN, 256);
  return n > 0 && originNumber(o.config.lowers, ORIGIN, n);
}

/** Another name of a node that is already known. */
export function addAlias(
  o: Overlay,
  parent: number,
  target: number,
  name: number,
  nameLen: number,
  flags: number,
  attr: number,
): number {
  const slot = newNode(parent, name, nameLen, get(target, F.flags) & 15);
  if (slot < 0) return slot;
  setFlag(slot, FLAG.ALIAS | flags);
  put(slot, F.upper, target);
  put(slot, F.children, get(target, F.upper));
  put(target, F.upper, slot);
  const mode = statNode(o, target);
  if (mode < 0) return mode;
  showAttr(o, target, attr);
  return target;
}

/** Something else than a directory in a lower layer; statBuffer() holds its attributes. */
function foundLowerFile(
  o: Overlay,
  parent: number,
  layer: Layer,
  dir: number,
  name: number,
  nameLen: number,
  mode: number,
  attr: number,
): number {
  const links = statNlink();
  attrFromStat(attr);
  numberFromStat(layer);
  if (isTelling(dir)) {
    // Where it has no mark, or none that tells, its own number stays in `shown`.
    const own = { ...shown };
    if (!readNumber(o, layer, dir, name, o.marks.read(layer, dir, name))) {
      shown.lo = own.lo;
      shown.hi = own.hi;
    }
  }
  const inoLo = shown.lo;
  const inoHi = shown.hi;
  if (links > 1) {
    const known = nodeByIno(o, inoLo, inoHi);
    if (known !== 0) return addAlias(o, parent, known, name, nameLen, 0, attr);
  }
  const slot = newNode(parent, name, nameLen, (mode & S.IFMT) >>> 12);
  if (slot < 0) return slot;
  put(slot, F.inoLo, inoLo);
  put(slot, F.inoHi, inoHi);
  put(slot, F.lower, dir);
  retainDir(dir);
  if (links > 1) {
    if (o.exporting === undefined) insertIno(slot);
    if (o.config.indexFd >= 0) {
      setFlag(slot, FLAG.LOWER_LINKS);
      o.links.set(slot, links);
      const indexed = findIndexed(o, slot, layer, dir, name);
      if (indexed < 0) {
        dropNode(o, slot);
        return indexed;
      }
      if (indexed > 0) {
        const r = statNode(o, slot);
        if (r < 0) return r;
        attrFromStat(attr);
        readUnionLinks(o, slot, statNlink());
      }
    }
  }
  if ((mode & S.IFMT) === S.IFREG && mayLackData(o, layer)) {
    const marks = o.marks.read(layer, dir, name);
    if (marks > 0 && marks & MARK.METACOPY) {
      const r = findMetacopyData(o, parent, slot, layer, dir, name, nameLen, marks);
      if (r < 0) {
        dropNode(o, slot);
        return r;
      }
    }
  }
  finishAttr(o, slot, attr);
  return slot;
}

/** Whether a file of a lower may be a metacopy file that is followed. In a composefs image it is never taken as it is: zeros. */
function mayLackData(o: Overlay, layer: Layer): boolean {
  const { metacopy, dataLayers } = o.config;
  return dataLayers.length > 0 || (metacopy && layer.index < o.bottom) || layer.metadataOnly;
}

/**
 * A lower object with several names may have been copied up under another one: the index tells.
 * @returns 1 when it was, 0 or -errno.
 */
function findIndexed(o: Overlay, slot: number, layer: Layer, dir: number, name: number): number {
  const length = encodeOrigin(layer, dir, name);
  if (length < 0) return 0;
  indexName(length);
  const mode = statAt(o.config.indexFd, INDEX_NAME);
  if (mode < 0 || isWhiteout(mode)) return 0;
  const fd = openAt(o.config.indexFd, INDEX_NAME, O.PATH | O.NOFOLLOW);
  if (fd < 0) return 0;
  put(slot, F.fd, fd + 1);
  setFlag(slot, FLAG.UPPER | FLAG.INDEXED);
  // Its data is still the lower object's, which this name leads to.
  const metacopy = getxattrAt(fd, emptyPath(), o.marks.metacopy, XATTR_VALUE, 256) >= 0;
  if (!metacopy) return 1;
  if (!o.config.metacopy && o.config.dataLayers.length === 0) return -E.PERM;
  setFlag(slot, FLAG.METACOPY);
  return 1;
}

/**
 * Finds the data of a metacopy file in the layers below its metadata and makes it the node's lower object.
 * @returns 0 or -errno (EIO when there is none).
 */
function findMetacopyData(
  o: Overlay,
  parent: number,
  slot: number,
  layer: Layer,
  dir: number,
  name: number,
  nameLen: number,
  marks: number,
): number {
  if (layer.index === 0 && !o.config.metacopy && o.config.dataLayers.length === 0) {
    // As the kernel: a metacopy file in a stack that does not expect one is refused, not shown empty.
    return -E.PERM;
  }
  search.name = name;
  search.nameLen = nameLen;
  search.path = undefined;
  search.stop = false;
  let mark = marks;
  let at = layer;
  let atDir = dir;
  let atName = name;
  for (;;) {
    if (mark & MARK.REDIRECT && !readRedirect(o, at, atDir, atName)) return -E.INVAL;
    const below = nextBelow(o, parent, at.index);
    if (below < 0) return below;
    const next = dataPlace.layer as Layer;
    if (at.index === 0 && marks & MARK.ORIGIN && !isOrigin(o, slot)) {
      next.release(dataPlace.dir);
      return -E.IO;
    }
    mark = next.index > o.bottom ? 0 : o.marks.read(next, dataPlace.dir, search.name);
    if (mark > 0 && mark & MARK.METACOPY) {
      at = next;
      atDir = dataPlace.dir;
      atName = search.name;
      continue;
    }
    break;
  }
  const metadataDir = get(slot, F.lower);
  if (layer.index !== 0) {
    const ref = allocName(name, nameLen);
    if (ref === 0) return -E.NOMEM;
    o.metadata.set(slot, { dir: metadataDir, name: ref });
  } else if (metadataDir !== 0) {
    layerFor(o, metadataDir).release(metadataDir);
  }
  put(slot, F.lower, dataPlace.dir);
  put(slot, F.lowerName, allocName(search.name, search.nameLen));
  setFlag(slot, FLAG.METACOPY);
  return 0;
}

/**
 * Whether the object in statBuffer() is what a metacopy file was copied from, as the kernel asks with `index=on`. Of the
 * numbers the part that no key is in is compared: what a key depends on may have changed, and nothing else.
 */
function isOrigin(o: Overlay, slot: number): boolean {
  return o.config.indexFd < 0 || u32[(statBuffer() + Statx.ino) >>> 2] === get(slot, F.inoLo);
}

const dataPlace = { layer: undefined as Layer | undefined, dir: 0 };

/** The next object below layer `index` that `search` names: layer and directory (one reference) in dataPlace. */
function nextBelow(o: Overlay, parent: number, index: number): number {
  if (search.path === undefined) {
    const lowers = stackLength(parent);
    for (let i = 0; i < lowers; i++) {
      const dir = stackAt(parent, i);
      const layer = layerFor(o, dir);
      if (layer.index <= index) continue;
      const mode = layer.stat(dir, search.name);
      if (mode === -E.NOENT) continue;
      if (mode < 0) return mode;
      if ((mode & S.IFMT) !== S.IFREG) return -E.IO;
      retainDir(dir);
      dataPlace.layer = layer;
      dataPlace.dir = dir;
      return 0;
    }
    return -E.IO;
  }
  const candidates = [...o.config.lowers.filter((l) => l.index > index), ...o.config.dataLayers];
  for (const layer of candidates) {
    const isData = layer.index > o.bottom;
    if (search.stop && !isData) continue;
    const dir = isData ? walkDataLayer(layer) : walkToParent(o, layer);
    if (dir < 0) continue;
    search.nameLen = lastOfPath();
    search.name = PATH;
    const mode = layer.stat(dir, PATH);
    if (mode >= 0 && (mode & S.IFMT) === S.IFREG) {
      dataPlace.layer = layer;
      dataPlace.dir = dir;
      return 0;
    }
    layer.release(dir);
  }
  return -E.IO;
}
