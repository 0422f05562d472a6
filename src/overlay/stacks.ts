// The lower directories that a directory node merges, topmost first: one inline, or a counted list in the arena.
// Written by lookup when the node is made, read by every operation on the directory, freed with the node.
// The list holds layer-directory records (layer/dirs.ts), one reference each.

import type { Layer } from '../layer/layer.js';
import { layerOf } from '../layer/layer.js';
import { u32 } from '../linux/memory.js';
import { HEADER, STACKS, STACKS_SIZE } from '../vfs/layout.js';
import { clearFlag, F, FLAG, get, hasFlag, put, setFlag } from '../vfs/nodes.js';
import type { Overlay } from './context.js';

const BASE = STACKS >>> 2;
// Header state: next unused word, then the free lists by length.
const STATE = (HEADER + 0xc000) >>> 2;
/** Words of it: more than a stack may have layers. */
const LENGTHS = 1024;

/** How many lower directories node `slot` merges. */
export function stackLength(slot: number): number {
  const lower = get(slot, F.lower);
  if (lower === 0) return 0;
  return hasFlag(slot, FLAG.SINGLE) ? 1 : (u32[BASE + lower] as number);
}

/** The directory record at `position`. */
export function stackAt(slot: number, position: number): number {
  const lower = get(slot, F.lower);
  return hasFlag(slot, FLAG.SINGLE) ? lower : (u32[BASE + lower + 1 + position] as number);
}

/** Gives the node its stack and takes over the references. @returns false when the arena is full. */
export function setStack(slot: number, dirs: readonly number[]): boolean {
  if (dirs.length === 0) {
    put(slot, F.lower, 0);
    clearFlag(slot, FLAG.SINGLE);
    return true;
  }
  if (dirs.length === 1) {
    put(slot, F.lower, dirs[0] as number);
    setFlag(slot, FLAG.SINGLE);
    return true;
  }
  const head = STATE + dirs.length;
  let ref = u32[head] as number;
  if (ref !== 0) {
    u32[head] = u32[BASE + ref] as number;
  } else {
    ref = u32[STATE] || 1;
    if ((ref + dirs.length + 1) * 4 > STACKS_SIZE) return false;
    u32[STATE] = ref + dirs.length + 1;
  }
  u32[BASE + ref] = dirs.length;
  for (let i = 0; i < dirs.length; i++) u32[BASE + ref + 1 + i] = dirs[i] as number;
  put(slot, F.lower, ref);
  clearFlag(slot, FLAG.SINGLE);
  return true;
}

/** For a successor: no list is in use. */
export function resetStacks(): void {
  u32.fill(0, STATE, STATE + LENGTHS);
}

/** Releases every directory of the stack and the list itself. */
export function dropStack(o: Overlay, slot: number): void {
  const length = stackLength(slot);
  for (let i = 0; i < length; i++) {
    const dir = stackAt(slot, i);
    layerFor(o, dir).release(dir);
  }
  if (length > 1) {
    const ref = get(slot, F.lower);
    u32[BASE + ref] = u32[STATE + length] as number;
    u32[STATE + length] = ref;
  }
  put(slot, F.lower, 0);
  clearFlag(slot, FLAG.SINGLE);
}

/** The layer that a directory record belongs to. */
export function layerFor(o: Overlay, dir: number): Layer {
  return o.layer(layerOf(dir));
}
