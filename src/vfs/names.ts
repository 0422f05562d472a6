// File names in the shared arena: length byte, bytes, NUL, in granules of 16 bytes, freed names reused by size.
// Node and layer-directory records refer to a name by its granule number.
// Names are bytes up to NAME_MAX (255); nothing here decodes them. Read from its start, the arena is a row of blocks at every
// instruction, so that a successor can tell the live ones from the rest.

import { getBytes, getWord, putWord, u8, u32 } from '../linux/memory.js';
import { HEADER, NAMES, NAMES_SIZE } from './layout.js';

const GRANULE = 16;
const CLASSES = 18;
/** Allocator state in the header: next unused granule, then the heads of the free lists by granule count. */
const STATE = (HEADER + 0x8000) >>> 2;

/** Copies the name (without NUL) and returns its reference (> 0), or 0 when the arena is full. */
export function allocName(name: number, length: number): number {
  const ref = allocBlock(length);
  if (ref === 0) return 0;
  const at = NAMES + ref * GRANULE;
  u8.copyWithin(at + 1, name, name + length);
  u8[at + 1 + length] = 0;
  return ref;
}

const granulesOf = (length: number): number => (length + 2 + GRANULE - 1) >>> 4;

/** A block for `length` bytes, which say so; 0 when the arena is full. */
function allocBlock(length: number): number {
  const granules = granulesOf(length);
  const head = STATE + granules;
  let ref = u32[head] as number;
  if (ref !== 0) {
    u32[head] = u32[nextFree(ref)] as number;
    u8[NAMES + ref * GRANULE] = length;
    return ref;
  }
  ref = u32[STATE] || 1;
  if ((ref + granules) * GRANULE > NAMES_SIZE) return 0;
  // Its size first: what lies below the mark is a row of blocks.
  u8[NAMES + ref * GRANULE] = length;
  u32[STATE] = ref + granules;
  return ref;
}

/** Index of the word of a free block that names the next: not the first, which keeps the block's size. */
const nextFree = (ref: number): number => (NAMES >>> 2) + ref * 4 + 1;

export function freeName(ref: number): void {
  if (ref === 0) return;
  const granules = granulesOf(u8[NAMES + ref * GRANULE] as number);
  u32[nextFree(ref)] = u32[STATE + granules] as number;
  u32[STATE + granules] = ref;
}

/** Bytes of a text in one block, beside the reference to the next. */
const PIECE = 251;

/** Keeps a text of any length, one code unit a byte. @returns a reference for textAt() and freeText(), or 0 when the arena is full. */
export function keepText(text: string): number {
  let next = 0;
  for (let end = text.length; end > 0; ) {
    const start = Math.floor((end - 1) / PIECE) * PIECE;
    const ref = allocBlock(4 + end - start);
    if (ref === 0) {
      freeText(next);
      return 0;
    }
    const at = NAMES + ref * GRANULE + 1;
    putWord(at, next);
    for (let i = start; i < end; i++) u8[at + 4 + i - start] = text.charCodeAt(i);
    next = ref;
    end = start;
  }
  return next;
}

/** As keepText(), for at most PIECE bytes of the arena. */
export function keepBytes(bytes: number, length: number): number {
  const ref = allocBlock(4 + length);
  if (ref === 0) return 0;
  const at = NAMES + ref * GRANULE + 1;
  u8.fill(0, at, at + 4);
  u8.copyWithin(at + 4, bytes, bytes + length);
  return ref;
}

function nextPiece(ref: number): number {
  return getWord(NAMES + ref * GRANULE + 1);
}

export function textAt(ref: number): string {
  let text = '';
  for (let at = ref; at !== 0; at = nextPiece(at)) {
    text += getBytes(nameAt(at) + 4, nameLength(at) - 4);
  }
  return text;
}

export function freeText(ref: number): void {
  for (let at = ref; at !== 0; ) {
    const next = nextPiece(at);
    freeName(at);
    at = next;
  }
}

/** For a successor: tells the names that are in use, and frees all others. */
export class NameSweep {
  readonly #end = u32[STATE] || 1;
  readonly #live = new Uint8Array((this.#end >>> 3) + 1);

  name(ref: number): void {
    this.#live[ref >>> 3] = (this.#live[ref >>> 3] as number) | (1 << (ref & 7));
  }

  text(ref: number): void {
    for (let at = ref; at !== 0; at = nextPiece(at)) this.name(at);
  }

  finish(): void {
    u32.fill(0, STATE + 1, STATE + 1 + CLASSES);
    for (let ref = 1; ref < this.#end; ) {
      const granules = granulesOf(u8[NAMES + ref * GRANULE] as number);
      if (((this.#live[ref >>> 3] as number) & (1 << (ref & 7))) === 0) freeName(ref);
      ref += granules;
    }
  }
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
