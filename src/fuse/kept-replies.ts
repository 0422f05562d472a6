// Replies that a predecessor formed and perhaps never wrote, until the kernel sends their requests again.
// Used by succession.ts; they lie in the arena, for this server may die too before they were asked for.
// Follows: fuse_resend() in fs/fuse/dev.c: what is sent again comes before every request that was not read yet.

import { u8, u32 } from '../linux/memory.js';
import { KEPT, KEPT_COUNT, KEPT_SIZE, replyBuffer } from '../vfs/layout.js';
import { FuseOutHeader } from './abi.js';

const REP = replyBuffer(0);

/** Words of a slot: the request's number without its mark, the reply's length in bytes (0: free); then the reply. */
const LO = 0;
const HI = 1;
const LENGTH = 2;
const HEAD = 16;

const at = (slot: number): number => KEPT + slot * KEPT_SIZE;
const word = (slot: number, k: number): number => u32[(at(slot) >>> 2) + k] as number;

export class KeptReplies {
  #count = 0;

  constructor() {
    for (let slot = 0; slot < KEPT_COUNT; slot++) if (word(slot, LENGTH) !== 0) this.#count++;
  }

  get any(): boolean {
    return this.#count > 0;
  }

  /** Keeps the reply of `length` bytes in replyBuffer(0); one that is too large is made again instead. */
  keep(lo: number, hi: number, length: number): void {
    if (length > KEPT_SIZE - HEAD) return;
    const slot = this.#place(lo, hi);
    const k = at(slot) >>> 2;
    if (u32[k + LENGTH] === 0) this.#count++;
    u32[k + LENGTH] = 0;
    u8.copyWithin(at(slot) + HEAD, REP, REP + length);
    u32[k + LO] = lo;
    u32[k + HI] = hi;
    u32[k + LENGTH] = length;
  }

  /** Puts the reply to the request (number as read: lo, hi) into replyBuffer(0). @returns its length, 0: there is none. */
  take(lo: number, hi: number): number {
    const slot = this.#find(lo, hi & 0x7fff_ffff);
    if (slot < 0) return 0;
    const length = word(slot, LENGTH);
    u8.copyWithin(REP, at(slot) + HEAD, at(slot) + HEAD + length);
    u32[(REP + FuseOutHeader.at.unique) >>> 2] = lo;
    u32[((REP + FuseOutHeader.at.unique) >>> 2) + 1] = hi;
    return length;
  }

  /** It was written. */
  drop(lo: number, hi: number): void {
    const slot = this.#find(lo, hi & 0x7fff_ffff);
    if (slot < 0) return;
    u32[(at(slot) >>> 2) + LENGTH] = 0;
    this.#count--;
  }

  /** Everything that was sent again has been read: nobody asks for the rest. */
  dropAll(): void {
    for (let slot = 0; slot < KEPT_COUNT; slot++) u32[(at(slot) >>> 2) + LENGTH] = 0;
    this.#count = 0;
  }

  #find(lo: number, hi: number): number {
    for (let slot = 0; slot < KEPT_COUNT; slot++) {
      if (word(slot, LENGTH) !== 0 && word(slot, LO) === lo && word(slot, HI) === hi) return slot;
    }
    return -1;
  }

  /** The request's own slot, else a free one; else the first, whose request is then handled again. */
  #place(lo: number, hi: number): number {
    const own = this.#find(lo, hi);
    if (own >= 0) return own;
    for (let slot = 0; slot < KEPT_COUNT; slot++) if (word(slot, LENGTH) === 0) return slot;
    return 0;
  }
}
