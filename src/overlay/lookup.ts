// From a name in a directory node to a child node: what is known, else the topmost layer that has the name.
// The first thing every path walk needs; everything it learns is kept in the node tables.
// Follows: fs/overlayfs/namei.c (ovl_lookup), without its dentries. What it finds: lookup-dir.ts, lookup-file.ts.

import { type Layer, markHiding, markTelling } from '../layer/layer.js';
import { S } from '../linux/constants.js';
import { E } from '../linux/errno.js';
import { emptyPath } from '../linux/files.js';
import { u32 } from '../linux/memory.js';
import { ENTRY_SIZE, Entry } from '../vfs/attr.js';
import { ABSENT } from '../vfs/filesystem.js';
import {
  F,
  FLAG,
  get,
  handleGeneration,
  hasFlag,
  nodeidHi,
  nodeidLo,
  rec,
  setFlag,
} from '../vfs/nodes.js';
import type { Overlay } from './context.js';
import { DirIndex } from './dir-index.js';
import { indexFor } from './dir-index-cache.js';
import { dropNode } from './forget.js';
import { foundLowerDir, foundUpperDir } from './lookup-dir.js';
import { foundLowerFile, foundUpperFile } from './lookup-file.js';
import { MARK } from './marks.js';
import { beginSearch } from './name-search.js';
import { isWhiteout, showAttr, statNode } from './objects.js';
import { childOf, resolve } from './places.js';
import { layerFor, stackAt, stackLength } from './stacks.js';
import { hasAufsWhiteout, isAufsName, isXattrWhiteout } from './whiteouts.js';

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

  beginSearch(name, nameLen);

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
