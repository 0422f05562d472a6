// nfs_export=on: nodeids that are inode numbers, so that a file handle means the same object to every later server.
// filesystem.ts asks it for "." and ".." of a handle, lookup and create have their new nodes entered under their numbers.
// Follows: fs/fuse/inode.c (fuse_get_dentry, fuse_get_parent), which compare nodeid and generation of what they are told.

import { E } from '../linux/errno.js';
import { close, Statx, statBirth, statBuffer } from '../linux/files.js';
import { u8, u32 } from '../linux/memory.js';
import { Entry } from '../vfs/attr.js';
import { freeName, nameAt, nameLength } from '../vfs/names.js';
import {
  F,
  FLAG,
  get,
  hasFlag,
  insertIno,
  insertName,
  isNodeid,
  ownNodeid,
  put,
  ROOT,
} from '../vfs/nodes.js';
import type { Exporting, Overlay } from './context.js';
import { Search } from './export-search.js';
import { freeUnused } from './forget.js';
import { keepNothing } from './hide.js';
import { answerEntry } from './lookup.js';
import { attrOf } from './objects.js';
import { isDir, nodeBy, nodeByIno, typeOfNode } from './places.js';
import { layerFor } from './stacks.js';
import { takeOver } from './take-over.js';

const DOT = 0x2e;

/** "." or "..": what the kernel asks about a file handle, never about a path. */
export function isDots(name: number, length: number): boolean {
  return (length === 1 || (length === 2 && u8[name + 1] === DOT)) && u8[name] === DOT;
}

/** Flags that a node keeps when it gets a name again. */
const KEPT = FLAG.HASHED_INO | FLAG.STORED | FLAG.WRITTEN_BELOW | FLAG.NO_CAPABILITY | FLAG.COPIED;

export class Exports implements Exporting {
  readonly #o: Overlay;
  readonly #search: Search;
  #generation = 0;

  constructor(o: Overlay) {
    this.#o = o;
    this.#search = new Search(o);
    statBirth(true);
  }

  /** An inode number is used again, but not for something born in the same nanosecond. Zeros, where births are not kept, give 0. */
  born(): void {
    const k = (statBuffer() + Statx.btime) >>> 2;
    const seconds =
      Math.imul(u32[k] as number, 0x9e3779b1) ^ Math.imul(u32[k + 1] as number, 0x7feb352d);
    const mixed = Math.imul(seconds ^ (seconds >>> 15) ^ (u32[k + 2] as number), 0x85ebca6b);
    this.#generation = (mixed ^ (mixed >>> 13)) >>> 0;
  }

  copied(generation: number): void {
    this.#generation = generation;
  }

  settle(slot: number, parent: number): number {
    if (hasFlag(slot, FLAG.HASHED_INO | FLAG.OWN_ID)) return slot;
    const lo = get(slot, F.inoLo);
    const hi = get(slot, F.inoHi);
    // What is below such a directory may not belong to the layers at all (practice.ts).
    if (!isNodeid(lo, hi) || hasFlag(parent, FLAG.OWN_ID)) {
      ownNodeid(slot);
      return slot;
    }
    const generation = this.#generation;
    const other = nodeByIno(this.#o, lo, hi);
    if (other !== 0) {
      if (isSame(other, slot, generation) && this.#returns(slot, other)) return other;
      ownNodeid(slot);
      return slot;
    }
    put(slot, F.generation, generation);
    insertIno(slot);
    return slot;
  }

  nameAdded(dir: number): void {
    this.#search.nameAdded(dir);
  }

  forgotten(slot: number): void {
    this.#search.forgotten(slot);
  }

  /** LOOKUP of "." (`nameLen` 1) or ".." of a nodeid that may be long forgotten. @returns as FileSystem.lookup(). */
  lookup(nodeLo: number, nodeHi: number, nameLen: number, out: number): number {
    let slot = nodeBy(this.#o, nodeLo, nodeHi);
    if (slot === 0) slot = isNodeid(nodeLo, nodeHi) ? this.#search.find(nodeLo, nodeHi) : -E.STALE;
    if (slot < 0) return slot;
    const found = slot;
    if (nameLen === 2 && slot !== ROOT) slot = get(slot, F.parent);
    const e = slot === 0 ? -E.STALE : attrOf(this.#o, slot, out + Entry.attr);
    if (e >= 0) answerEntry(slot, out);
    // What was made for this question alone goes again: all of it, or what is below the parent.
    freeUnused(this.#o, found);
    return e;
  }

  /** Gives node `to` the name and the place of the new node `from`, which is freed. @returns false where names are used up. */
  #returns(from: number, to: number): boolean {
    const o = this.#o;
    const name = get(from, F.name);
    if (!insertName(to, get(from, F.parent), nameAt(name), nameLength(name))) return false;
    keepNothing(o, to);
    const lower = get(to, F.lower);
    if (lower !== 0) layerFor(o, lower).release(lower);
    freeName(get(to, F.lowerName));
    if (get(to, F.fd) !== 0) close(get(to, F.fd) - 1);
    takeOver(o, to, from, KEPT);
    return true;
  }
}

/** Whether a node that lost its last known name is the object that was found under another one. */
function isSame(other: number, slot: number, generation: number): boolean {
  return (
    hasFlag(other, FLAG.ORPHAN) &&
    !isDir(other) &&
    typeOfNode(other) === typeOfNode(slot) &&
    get(other, F.generation) === generation
  );
}
