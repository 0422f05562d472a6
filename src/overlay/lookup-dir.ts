// A directory that lookup has found: which directories of the layers below it merges with, and its number.
// Called by lookup.ts when the topmost object of a name is a directory; fill asks what would be merged without a layer.
// Follows: fs/overlayfs/namei.c (ovl_lookup, ovl_lookup_single, ovl_lookup_layer).

import { isTelling, type Layer, markHiding, markTelling } from '../layer/layer.js';
import { DT, S } from '../linux/constants.js';
import { E } from '../linux/errno.js';
import { emptyPath } from '../linux/files.js';
import { attrFromStat } from '../vfs/attr.js';
import { Counter, count } from '../vfs/counters.js';
import { F, FLAG, get, put, setFlag } from '../vfs/nodes.js';
import type { Overlay } from './context.js';
import { dropNode } from './forget.js';
import { MARK } from './marks.js';
import { beginSearch, lastOfPath, readRedirect, search, walkToParent } from './name-search.js';
import { newNode } from './new-node.js';
import { shown } from './numbers.js';
import { finishAttr, numberFromStat, setInoFromStat } from './objects.js';
import { readNumber, tellsNumber } from './own-number.js';
import { layerFor, setStack, stackAt, stackLength } from './stacks.js';
import { hasAufsOpaque, hasAufsWhiteout } from './whiteouts.js';
import { PATH } from './work.js';

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
  beginSearch(name, nameLen);
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

/** A directory in the upper layer; statBuffer() holds its attributes. */
export function foundUpperDir(
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
  merged = [];
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

/** The topmost object is a directory in the lower at stack `position`; statBuffer() holds its attributes. */
export function foundLowerDir(
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
  merged = [];
  const r = collectLowerDirs(o, parent, position);
  if (r < 0 || !setStack(slot, merged)) {
    for (const dir of merged) layerFor(o, dir).release(dir);
    dropNode(o, slot);
    return r < 0 ? r : -E.NOMEM;
  }
  finishAttr(o, slot, attr);
  return slot;
}
