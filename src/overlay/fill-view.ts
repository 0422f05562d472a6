// What a directory shows once one lower layer is gone, held against what it shows now: which directories it would merge, which
// of its names have to be looked at, and who provides each of them.
// Asked by fill.ts; reads layers and changes nothing.
// The rules of merging are lookup-dir.ts's.

import { D, dirGet, layerOf, retainDir } from '../layer/layer.js';
import { DT } from '../linux/constants.js';
import { E } from '../linux/errno.js';
import { getBytes } from '../linux/memory.js';
import { nameAt, nameEquals, nameLength } from '../vfs/names.js';
import { F, get } from '../vfs/nodes.js';
import type { Overlay } from './context.js';
import { lowersWithout } from './lookup-dir.js';
import { isWhiteout } from './objects.js';
import { layerFor, stackAt, stackLength } from './stacks.js';
import { isXattrWhiteout } from './whiteouts.js';

/** A directory before and after. */
export interface View {
  /** The lowers that it merges: records of its node. */
  readonly before: readonly number[];
  /** The same without the layer; records with a reference each, of releaseView(). */
  readonly after: readonly number[];
  /** Of `before`, what is not of the layer and is missing in `after`: it was reached through the layer. */
  readonly lost: readonly number[];
  /** Of `after`, what is not in `before`: the layer has hidden it. */
  readonly laidBare: readonly number[];
  /** Nothing that it shows comes from what is left below: all of it will be in the upper. */
  readonly alone: boolean;
}

/** Whether two records are of the same directory. */
function isSamePlace(a: number, b: number): boolean {
  if (layerOf(a) !== layerOf(b)) return false;
  let one = a;
  let other = b;
  while (one !== other) {
    const name = dirGet(one, D.name);
    const otherName = dirGet(other, D.name);
    if (name === 0 || otherName === 0) return false;
    if (!nameEquals(name, nameAt(otherName), nameLength(otherName))) return false;
    one = dirGet(one, D.parent);
    other = dirGet(other, D.parent);
  }
  return true;
}

const has = (dirs: readonly number[], dir: number): boolean =>
  dirs.some((other) => isSamePlace(dir, other));

/** The lowers of a directory node now. */
export function lowersOf(slot: number): number[] {
  return Array.from({ length: stackLength(slot) }, (_, i) => stackAt(slot, i));
}

function viewOf(before: readonly number[], after: readonly number[], without: number): View {
  const left = before.filter((dir) => layerOf(dir) !== without);
  const lost = left.filter((dir) => !has(after, dir));
  const laidBare = after.filter((dir) => !has(left, dir));
  const alone = lost.length === left.length && (before.length > 0 || after.length > 0);
  return { before, after, lost, laidBare, alone };
}

/** The root merges the roots of all layers. */
export function viewOfRoot(slot: number, without: number): View {
  const before = lowersOf(slot);
  const after = before.filter((dir) => layerOf(dir) !== without);
  for (const dir of after) retainDir(dir);
  // Never opaque: there is no mark that says so of a layer's root.
  return { ...viewOf(before, after, without), alone: false };
}

/**
 * The view of subdirectory `slot`, called `name`. @param parent what its parent would merge; empty where that will be opaque.
 * @returns -errno where a layer cannot be read.
 */
export function viewOfChild(
  o: Overlay,
  without: number,
  parent: readonly number[],
  slot: number,
  name: number,
  nameLen: number,
): View | number {
  const after: number[] = [];
  const r = lowersWithout(o, without, parent, get(slot, F.upper), name, nameLen, after);
  if (r >= 0) return viewOf(lowersOf(slot), after, without);
  for (const dir of after) layerFor(o, dir).release(dir);
  return r;
}

export function releaseView(o: Overlay, { after }: View): void {
  for (const dir of after) layerFor(o, dir).release(dir);
}

/** Whether neither the directory nor anything below it has to do with the layer: all of it lies further down. */
export function isUntouched({ before, after, lost, laidBare }: View, without: number): boolean {
  if (after.length === 0 || lost.length > 0 || laidBare.length > 0) return false;
  return before.every((dir) => layerOf(dir) > without);
}

/** The directory of `dirs` that provides `name`; 0: none does, or a whiteout stands in the way. Or -errno. */
export function providerIn(o: Overlay, dirs: readonly number[], name: number): number {
  for (const dir of dirs) {
    const layer = layerFor(o, dir);
    const mode = layer.stat(dir, name);
    if (mode === -E.NOENT) continue;
    if (mode < 0) return mode;
    return isWhiteout(mode) || isXattrWhiteout(o, layer, dir, name, mode) ? 0 : dir;
  }
  return 0;
}

/** Whether `dir` (or 0) is where `other` (or 0) is. */
export function isSameProvider(dir: number, other: number): boolean {
  return dir === other || (dir > 0 && other > 0 && isSamePlace(dir, other));
}

/**
 * Names in the directory that have to be looked at, one code unit a byte. What is no directory and lies above the layer
 * stays as it is, unless it may be a metacopy file.
 * @returns -errno where a layer cannot be listed.
 */
export function namesToLookAt(
  o: Overlay,
  without: number,
  slot: number,
  { before, lost, laidBare, alone }: View,
): string[] | number {
  const { metacopy, dataLayers } = o.config;
  const leaning = metacopy || dataLayers.length > 0;
  const wanted = new Set<string>();
  const settled = new Set<string>();
  const upperDir = get(slot, F.upper);
  const above = before.filter((dir) => layerOf(dir) < without);
  if (upperDir !== 0) above.unshift(upperDir);
  for (const dir of above) {
    const r = layerFor(o, dir).list(dir, (name, length, _lo, _hi, type) => {
      const text = getBytes(name, length);
      if (settled.has(text)) return;
      const open = type === DT.DIR || type === DT.UNKNOWN || (leaning && type === DT.REG);
      if (open) wanted.add(text);
      else if (!wanted.has(text)) settled.add(text);
    });
    if (r < 0) return r;
  }
  const below = before.filter((dir) => layerOf(dir) === without);
  for (const dir of [...below, ...lost, ...(alone ? [] : laidBare)]) {
    const r = layerFor(o, dir).list(dir, (name, length) => {
      const text = getBytes(name, length);
      if (!settled.has(text)) wanted.add(text);
    });
    if (r < 0) return r;
  }
  return [...wanted];
}
