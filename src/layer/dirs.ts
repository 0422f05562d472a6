// Directories of layers: one 32-byte record for each layer directory in use, in the shared arena.
// A stack of a merged directory is a list of these; a directory layer keeps a bounded number of them open.
// Names are never resolved as paths: a directory is opened from its parent's descriptor, symlinks refused.

import { u32 } from '../linux/memory.js';
import { HEADER, LAYER_DIR_COUNT, LAYER_DIRS } from '../vfs/layout.js';
import { allocName, freeName } from '../vfs/names.js';

/** Fields of a record, as u32 indexes. */
export const D = {
  /** Index of the layer in the stack: 0 is the upper, then the lowers from the top. */
  layer: 0,
  /** Record of the parent directory in the same layer; 0 for a layer's root. */
  parent: 1,
  /** Name in the parent (vfs/names.ts); 0 for a layer's root. */
  name: 2,
  /** fd + 1 when open. Images use it for the low half of the nid. */
  fd: 3,
  /** Nodes, stacks and child records that hold this one. */
  refs: 4,
  /** Set when used, cleared by the clock that closes descriptors. */
  used: 5,
  /** Images: the high half of the nid. */
  nidHi: 6,
  /** Bits: 1: see markHiding(). 2: see markTelling(). */
  says: 7,
} as const;
const HIDES = 1;
const TELLS = 2;
const WORDS = 8;
const BASE = LAYER_DIRS >>> 2;
const STATE = (HEADER + 0xb000) >>> 2;

export function get(dir: number, field: number): number {
  return u32[BASE + dir * WORDS + field] as number;
}

export function put(dir: number, field: number, value: number): void {
  u32[BASE + dir * WORDS + field] = value;
}

/** Index of the layer that a directory belongs to. */
export function layerOf(dir: number): number {
  return u32[BASE + dir * WORDS + D.layer] as number;
}

/** A record with one reference, or 0 when the table is full. `nameLen` 0: a layer's root. */
export function allocDir(layer: number, parent: number, name: number, nameLen: number): number {
  let dir = u32[STATE + 1] as number;
  if (dir !== 0) {
    u32[STATE + 1] = get(dir, D.parent);
  } else {
    dir = u32[STATE] || 1;
    if (dir >= LAYER_DIR_COUNT) return 0;
    u32[STATE] = dir + 1;
  }
  const k = BASE + dir * WORDS;
  u32[k + D.layer] = layer;
  u32[k + D.parent] = parent;
  u32[k + D.name] = nameLen === 0 ? 0 : allocName(name, nameLen);
  u32[k + D.fd] = 0;
  u32[k + D.refs] = 1;
  u32[k + D.used] = 0;
  u32[k + D.says] = 0;
  if (parent !== 0) retainDir(parent);
  return dir;
}

/** Notes that the directory may hold whiteouts in xattr form: its opaque mark is "x". */
export function markHiding(dir: number): void {
  put(dir, D.says, get(dir, D.says) | HIDES);
}

/** Whether markHiding() was called for it. */
export function isHiding(dir: number): boolean {
  return (get(dir, D.says) & HIDES) !== 0;
}

/** Notes that objects in the directory may have marks that tell their numbers: the layer was an upper. */
export function markTelling(dir: number): void {
  put(dir, D.says, get(dir, D.says) | TELLS);
}

/** Whether markTelling() was called for it. */
export function isTelling(dir: number): boolean {
  return (get(dir, D.says) & TELLS) !== 0;
}

export function retainDir(dir: number): void {
  const k = BASE + dir * WORDS + D.refs;
  u32[k] = (u32[k] as number) + 1;
}

/**
 * Drops a reference; at the last one the record is freed and its parent released.
 * @param closing told the fd that the record still held.
 */
export function releaseDir(dir: number, closing: (dir: number) => void): void {
  let at = dir;
  while (at !== 0) {
    const k = BASE + at * WORDS;
    const refs = (u32[k + D.refs] as number) - 1;
    u32[k + D.refs] = refs;
    if (refs > 0) return;
    if (u32[k + D.fd] !== 0) closing(at);
    u32[k + D.nidHi] = 0;
    freeName(u32[k + D.name] as number);
    const parent = u32[k + D.parent] as number;
    u32[k + D.name] = 0;
    u32[k + D.fd] = 0;
    u32[k + D.parent] = u32[STATE + 1] as number;
    u32[STATE + 1] = at;
    at = parent;
  }
}

/** For a successor: all records are free but `roots`, which it has made itself. Names are freed by vfs/rebuild.ts. */
export function resetDirs(roots: readonly number[]): void {
  u32[STATE + 1] = 0;
  for (let dir = (u32[STATE] || 1) - 1; dir > 0; dir--) {
    if (roots.includes(dir)) continue;
    const k = BASE + dir * WORDS;
    u32.fill(0, k, k + WORDS);
    u32[k + D.parent] = u32[STATE + 1] as number;
    u32[STATE + 1] = dir;
  }
}

/** Gives a directory another place in its layer (after a rename there). */
export function moveDir(
  dir: number,
  parent: number,
  name: number,
  nameLen: number,
  closing: (dir: number) => void,
): void {
  const k = BASE + dir * WORDS;
  const oldParent = u32[k + D.parent] as number;
  const oldName = u32[k + D.name] as number;
  retainDir(parent);
  u32[k + D.parent] = parent;
  u32[k + D.name] = allocName(name, nameLen);
  freeName(oldName);
  if (oldParent !== 0) releaseDir(oldParent, closing);
}
