// Anything but a directory that lookup has found: its node, its number, and what it shares with its other names.
// Called by lookup.ts when the topmost object of a name is one; where its data lies elsewhere metacopy-data.ts finds it.
// Follows: fs/overlayfs/namei.c (ovl_lookup, ovl_lookup_index).

import { isHiding, isTelling, type Layer, retainDir } from '../layer/layer.js';
import { O, S } from '../linux/constants.js';
import { E } from '../linux/errno.js';
import { emptyPath, openAt, Statx, statAt, statBuffer } from '../linux/files.js';
import { u32 } from '../linux/memory.js';
import { getxattrAt } from '../linux/xattr.js';
import { Attr, attrFromStat } from '../vfs/attr.js';
import { Counter, count } from '../vfs/counters.js';
import { ABSENT } from '../vfs/filesystem.js';
import { F, FLAG, get, hasFlag, insertIno, put, setFlag } from '../vfs/nodes.js';
import type { Overlay } from './context.js';
import { dropNode } from './forget.js';
import { readUnionLinks } from './links.js';
import { MARK } from './marks.js';
import { findMetacopyData } from './metacopy-data.js';
import { addAlias, newNode } from './new-node.js';
import { shown } from './numbers.js';
import { finishAttr, isWhiteout, numberFromStat, statNlink, statNode } from './objects.js';
import { encodeOrigin, indexName } from './origin.js';
import { readNumber } from './own-number.js';
import { nodeByIno } from './places.js';
import { layerFor } from './stacks.js';
import { INDEX_NAME, XATTR_VALUE } from './work.js';

/** Something else than a directory in the upper layer; statBuffer() holds its attributes. */
export function foundUpperFile(
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

/** Something else than a directory in a lower layer; statBuffer() holds its attributes. */
export function foundLowerFile(
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
