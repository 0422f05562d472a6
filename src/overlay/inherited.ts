// A node that a predecessor left: where its object lies in the layers, found again when somebody first asks for it.
// Called through Overlay.settle wherever a nodeid, a name or an inode number leads to a node with FLAG.INHERITED.
// The way is that of lookup, from the parent's layers down; the object there must be the one that the node stood for.

import { O, S } from '../linux/constants.js';
import { E } from '../linux/errno.js';
import { openAt, Statx, statBuffer, statFd } from '../linux/files.js';
import { u32 } from '../linux/memory.js';
import { nameAt, nameEquals, nameLength } from '../vfs/names.js';
import {
  clearFlag,
  F,
  FLAG,
  get,
  hasFlag,
  insertIno,
  keptField,
  moveName,
  put,
  removeIno,
  removeName,
  setFlag,
} from '../vfs/nodes.js';
import type { Overlay } from './context.js';
import { freeAlias, freeUnused } from './forget.js';
import { keepNothing } from './hide.js';
import { hiddenName, restoreLower } from './kept.js';
import { readUnionLinks } from './links.js';
import { lookupLayers } from './lookup.js';
import { isWhiteout } from './objects.js';
import { isDir, typeOfNode } from './places.js';
import { layerFor, stackAt, stackLength } from './stacks.js';
import { takeOver } from './take-over.js';
import { RECORD } from './work.js';

/** What a node knows that its object does not tell. */
const OWN =
  FLAG.WRITTEN_BELOW |
  FLAG.STORED |
  FLAG.NO_CAPABILITY |
  FLAG.COPIED |
  FLAG.HIDDEN |
  FLAG.MAPPABLE |
  FLAG.OWN_ID;

/** Errors that say that the object is not there, rather than that it could not be asked for. */
function isGone(error: number): boolean {
  return error <= -0x10000 || error === -E.NOENT || error === -E.NOTDIR || error === -E.STALE;
}

/** Finds the place of node `slot` (not an alias). @returns the slot, or 0: it has none any more, or could not be asked for. */
export function settle(o: Overlay, slot: number): number {
  if (!hasFlag(slot, FLAG.INHERITED)) return slot;
  if (hasFlag(slot, FLAG.ORPHAN)) return settleOrphan(o, slot);
  const parent = get(slot, F.parent);
  if (settle(o, parent) === 0) return hasFlag(parent, FLAG.ORPHAN) ? lose(o, slot) : 0;
  if (hasFlag(parent, FLAG.ORPHAN)) return lose(o, slot);
  const hashed = hasFlag(slot, FLAG.HASHED_INO);
  // Or lookup would find this very node under its number.
  if (hashed) removeIno(slot);
  const r = find(o, slot, parent);
  if (hashed) insertIno(slot);
  if (r < 0) return isGone(r) ? lose(o, slot) : 0;
  settleAliases(o, slot);
  // Its name may have been about to go, and did not.
  keepNothing(o, slot);
  return slot;
}

/** Looks the node's name up, and gives it what was found. @returns 0 or -errno (ESTALE: it is another object). */
function find(o: Overlay, slot: number, parent: number): number {
  const ref = get(slot, F.name);
  const found = lookupLayers(o, parent, nameAt(ref), nameLength(ref), RECORD);
  if (found < 0) return found;
  // An object with several names, which another node stands for.
  const own =
    get(found, F.parent) === parent && nameEquals(get(found, F.name), nameAt(ref), nameLength(ref));
  if (!own) return -E.STALE;
  if (!isSame(slot, found)) {
    freeUnused(o, found);
    return -E.STALE;
  }
  if (hasFlag(found, FLAG.HASHED_INO)) {
    removeIno(found);
    insertIno(slot);
  }
  takeOver(o, slot, found, OWN | FLAG.HASHED_INO);
  return 0;
}

function isSame(slot: number, found: number): boolean {
  if (typeOfNode(slot) !== typeOfNode(found)) return false;
  if (get(slot, F.inoLo) === get(found, F.inoLo) && get(slot, F.inoHi) === get(found, F.inoHi)) {
    return true;
  }
  // In the upper, or in what was the upper when it was copied.
  return hasFlag(slot, FLAG.COPIED);
}

/** Other names of a file: each stays if something of the node's type is there. */
function settleAliases(o: Overlay, slot: number): void {
  if (isDir(slot)) return;
  for (let alias = get(slot, F.upper); alias !== 0; ) {
    const next = get(alias, F.children);
    if (hasFlag(alias, FLAG.INHERITED) && !settleAlias(o, alias)) freeAlias(o, alias);
    alias = next;
  }
}

function settleAlias(o: Overlay, alias: number): boolean {
  const parent = get(alias, F.parent);
  if (settle(o, parent) === 0 || hasFlag(parent, FLAG.ORPHAN)) return false;
  const name = nameAt(get(alias, F.name));
  const upperDir = get(parent, F.upper);
  let mode = upperDir === 0 || o.upper === undefined ? -E.NOENT : o.upper.stat(upperDir, name);
  const upper = mode >= 0;
  for (let i = 0; mode === -E.NOENT && i < stackLength(parent); i++) {
    const dir = stackAt(parent, i);
    mode = layerFor(o, dir).stat(dir, name);
  }
  if (mode < 0 || isWhiteout(mode) || (mode & S.IFMT) >>> 12 !== typeOfNode(alias)) return false;
  put(
    alias,
    F.flags,
    (get(alias, F.flags) & ~(FLAG.INHERITED | FLAG.UPPER | FLAG.FRESH)) | (upper ? FLAG.UPPER : 0),
  );
  return true;
}

/** The node's name leads to nothing, or to another object. @returns the slot where something is left of it, or 0. */
export function lose(o: Overlay, slot: number): number {
  settleAliases(o, slot);
  const alias = isDir(slot) ? 0 : get(slot, F.upper);
  const parent = get(slot, F.parent);
  if (alias !== 0) {
    const ref = get(alias, F.name);
    moveName(slot, get(alias, F.parent), nameAt(ref), nameLength(ref));
    freeAlias(o, alias);
    freeUnused(o, parent);
    return settle(o, slot);
  }
  // Without a place in a lower it counts as an object of the upper: one that has no descriptor is stale.
  setFlag(slot, get(slot, keptField(slot)) === 0 ? FLAG.ORPHAN | FLAG.UPPER : FLAG.ORPHAN);
  removeName(slot);
  const r = settleOrphan(o, slot);
  freeUnused(o, parent);
  return r;
}

/** A node without a name: by its name in the workdir, or by what was kept of it. @returns the slot. */
function settleOrphan(o: Overlay, slot: number): number {
  const inUpper = hasFlag(slot, FLAG.UPPER);
  if (!isDir(slot)) settleAliases(o, slot);
  clearFlag(slot, FLAG.INHERITED);
  if (isDir(slot)) {
    setFlag(slot, FLAG.UPPER);
    return slot;
  }
  if (!inUpper || hasFlag(slot, FLAG.METACOPY)) restoreLower(o, slot);
  if (!inUpper) {
    if (get(slot, F.lower) !== 0) return slot;
    setFlag(slot, FLAG.UPPER);
    return unreachable(slot);
  }
  if (!hasFlag(slot, FLAG.HIDDEN)) return unreachable(slot);
  const fd = openAt(o.config.workFd, hiddenName(slot), O.PATH | O.NOFOLLOW);
  if (fd < 0) {
    clearFlag(slot, FLAG.HIDDEN);
    return unreachable(slot);
  }
  put(slot, F.fd, fd + 1);
  if (hasFlag(slot, FLAG.INDEXED) && statFd(fd) >= 0) {
    // Without the one in the workdir.
    const links = (u32[(statBuffer() + Statx.nlink) >>> 2] as number) - 1;
    if (links === 0) o.links.set(slot, 0);
    else readUnionLinks(o, slot, links);
  }
  return slot;
}

/** Another name of the object, looked up, must find the object itself. @returns the slot. */
function unreachable(slot: number): number {
  if (hasFlag(slot, FLAG.HASHED_INO)) removeIno(slot);
  return slot;
}
