// File names in the shared arena: length byte, bytes, NUL, in granules of 16 bytes, freed names reused by size.
// Node and layer-directory records refer to a name by its granule number.
// Names are bytes up to NAME_MAX (255); nothing here decodes them.

import { u8, u32 } from '../linux/memory.js';
import { HEADER, NAMES, NAMES_SIZE } from './layout.js';

const GRANULE = 16;
const CLASSES = 18;
/** Allocator state in the header: next unused granule, then the heads of the free lists by granule count. */
const STATE = (HEADER + 0x8000) >>> 2;

/** Copies the name (without NUL) and returns its reference (> 0), or 0 when the arena is full. */
export function allocName(name: number, length: number): number {
  const granules = (length + 2 + GRANULE - 1) >>> 4;
  const head = STATE + granules;
  let ref = u32[head] as number;
  if (ref !== 0) {
    u32[head] = u32[(NAMES >>> 2) + ref * 4] as number;
  } else {
    ref = u32[STATE] || 1;
    if ((ref + granules) * GRANULE > NAMES_SIZE) return 0;
    u32[STATE] = ref + granules;
  }
  const at = NAMES + ref * GRANULE;
  u8[at] = length;
  u8.copyWithin(at + 1, name, name + length);
  u8[at + 1 + length] = 0;
  return ref;
}

export function freeName(ref: number): void {
  if (ref === 0) return;
  const granules = ((u8[NAMES + ref * GRANULE] as number) + 2 + GRANULE - 1) >>> 4;
  u32[(NAMES >>> 2) + ref * 4] = u32[STATE + granules] as number;
  u32[STATE + granules] = ref;
}

/** Arena offset of the NUL-terminated bytes. */
export function nameAt(ref: number): number {
  return NAMES + ref * GRANULE + 1;
}

export function nameLength(ref: number): number {
  return u8[NAMES + ref * GRANULE] as number;
}

export function nameEquals(ref: number, name: number, length: number): boolean {
  const at = NAMES + ref * GRANULE;
  if (u8[at] !== length) return false;
  for (let i = 0; i < length; i++) if (u8[at + 1 + i] !== u8[name + i]) return false;
  return true;
}

/** Hash of a directory number and a name; 32 bits, unsigned. */
export function hashName(seed: number, name: number, length: number): number {
  let h = Math.imul(seed ^ 0x811c9dc5, 0x01000193);
  for (let i = 0; i < length; i++) h = Math.imul(h ^ (u8[name + i] as number), 0x01000193);
  h ^= h >>> 15;
  h = Math.imul(h, 0x2c1b3c6d);
  return (h ^ (h >>> 13)) >>> 0;
}

if (CLASSES * 4 > 0x1000) throw new Error('name classes exceed their header space');
