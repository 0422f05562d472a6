// The objects that the kernel has open, as flat 128-byte records in the shared arena: what a successor of this server must know.
// Kept by open-objects.ts; an fh is slot and generation, never reused, as nodeids are.
// Right at every instruction: a server may be killed between any two stores, and its last request is handled again.

import { u8, u32 } from '../linux/memory.js';
import { RESENT } from '../vfs/journal.js';
import { OBJECT_COUNT, OBJECT_SIZE, OBJECTS } from '../vfs/layout.js';
import { IDENTITY_WORDS, type Identity } from './verified-objects.js';

/** Fields of a record, as u32 indexes. */
const T = {
  generation: 0,
  /** Bytes of the digest; 0 when the record is free. Written last. */
  digestSize: 1,
  /** Open files that have the object. */
  users: 2,
  /** What the kernel was told to read: 0 not asked yet, 1 through the server, else a backing id + 1. */
  backing: 3,
  /** Identity of the file that was compared with its digest; its first word is written last, and is 0 where there is none. */
  verified: 4,
  /** 32 or 64 bytes. */
  digest: 16,
} as const;

/** Record 0 is no object: u32 indexes there. */
const ALL = {
  /** First slot that was never used; 0: none was. */
  next: 0,
  /** Number of the change that comes next, below CHANGES. */
  change: 1,
} as const;

/** The records that follow hold the last changes of users, so that a request which is handled again changes nothing. */
const C = {
  uniqueLo: 0,
  /** Without RESENT; in its place MORE. */
  uniqueHi: 1,
  /** Users after the change. */
  users: 2,
  /** Slot of the object; 0: not made. Written when the other words are there. */
  slot: 3,
} as const;
const CHANGE_WORDS = 4;
const CHANGES = 256;

const WORDS = OBJECT_SIZE >>> 2;
const BASE = OBJECTS >>> 2;
const CHANGES_BASE = BASE + WORDS;
const FIRST = 1 + (CHANGES * CHANGE_WORDS) / WORDS;
/** A user more, not one less: a request whose caller is gone does both. */
const MORE = RESENT;

/** A request's number; Request of vfs/filesystem.ts has it. */
interface Numbered {
  readonly uniqueLo: number;
  readonly uniqueHi: number;
}

export class ObjectTable {
  readonly #u32: Uint32Array;
  /** Slots that were used and are free. Derived again by succeed(). */
  readonly #free: number[] = [];
  /** What predecessors have changed: requests that may come again. A number is never used for another request. */
  readonly #made = new Set<string>();

  /** @param words the arena. */
  constructor(words = u32) {
    this.#u32 = words;
  }

  /** @returns a slot with no users, or 0 when the table is full. */
  add(digest: Uint8Array): number {
    const next = this.#u32[BASE + ALL.next] || FIRST;
    const slot = this.#free.pop() ?? (next < OBJECT_COUNT ? next : 0);
    if (slot === 0) return 0;
    const k = BASE + slot * WORDS;
    this.#u32[k + T.users] = 0;
    this.#u32[k + T.backing] = 0;
    this.#u32[k + T.verified] = 0;
    u8.set(digest, (k + T.digest) << 2);
    // A slot below `next` is looked at by a successor: free until its last word is written.
    if (slot === next) this.#u32[BASE + ALL.next] = next + 1;
    this.#u32[k + T.digestSize] = digest.length;
    return slot;
  }

  /** Its fh means nothing from now on. */
  remove(slot: number): void {
    const k = BASE + slot * WORDS;
    this.#u32[k + T.generation] = (this.#u32[k + T.generation] as number) + 1;
    this.#u32[k + T.digestSize] = 0;
    this.#free.push(slot);
  }

  /** The upper half of the fh. */
  generation(slot: number): number {
    return this.#u32[BASE + slot * WORDS + T.generation] as number;
  }

  users(slot: number): number {
    return this.#u32[BASE + slot * WORDS + T.users] as number;
  }

  /** One user more or less. At most once each a request, however often that is handled. */
  change(r: Numbered, slot: number, by: 1 | -1): void {
    const hi = ((r.uniqueHi & ~RESENT) | (by > 0 ? MORE : 0)) >>> 0;
    if (this.#made.size > 0 && this.#made.has(keyOf(r.uniqueLo, hi))) return;
    const k = BASE + slot * WORDS + T.users;
    const number = this.#u32[BASE + ALL.change] as number;
    const c = CHANGES_BASE + number * CHANGE_WORDS;
    const users = (this.#u32[k] as number) + by;
    this.#u32[c + C.uniqueLo] = r.uniqueLo;
    this.#u32[c + C.uniqueHi] = hi;
    this.#u32[c + C.users] = users;
    this.#u32[c + C.slot] = slot;
    this.#u32[k] = users;
    this.#advance(number);
  }

  #advance(number: number): void {
    const next = (number + 1) % CHANGES;
    this.#u32[CHANGES_BASE + next * CHANGE_WORDS + C.slot] = 0;
    this.#u32[BASE + ALL.change] = next;
  }

  /** A backing id, 0: the kernel reads through the server, -1: not asked for yet. */
  backing(slot: number): number {
    return (this.#u32[BASE + slot * WORDS + T.backing] as number) - 1;
  }

  setBacking(slot: number, id: number): void {
    this.#u32[BASE + slot * WORDS + T.backing] = id + 1;
  }

  /** What the object was when it was equal to its digest; undefined: it was not, or nobody has looked. */
  verified(slot: number): Identity | undefined {
    const k = BASE + slot * WORDS + T.verified;
    return this.#u32[k] === 0 ? undefined : this.#u32.slice(k, k + IDENTITY_WORDS);
  }

  setVerified(slot: number, identity: Identity | undefined): void {
    const k = BASE + slot * WORDS + T.verified;
    this.#u32[k] = 0;
    if (identity === undefined) return;
    for (let i = IDENTITY_WORDS - 1; i >= 0; i--) this.#u32[k + i] = identity[i] as number;
  }

  /** A copy. */
  digest(slot: number): Uint8Array {
    const at = (BASE + slot * WORDS + T.digest) << 2;
    return u8.slice(at, at + (this.#u32[BASE + slot * WORDS + T.digestSize] as number));
  }

  /** Takes over what a predecessor left. @returns slots that are in use, some of them perhaps without users. */
  succeed(): number[] {
    const number = this.#u32[BASE + ALL.change] as number;
    const last = CHANGES_BASE + number * CHANGE_WORDS;
    const changed = this.#u32[last + C.slot] as number;
    if (changed !== 0) {
      this.#u32[BASE + changed * WORDS + T.users] = this.#u32[last + C.users] as number;
      this.#advance(number);
    }
    for (let c = CHANGES_BASE; c < CHANGES_BASE + CHANGES * CHANGE_WORDS; c += CHANGE_WORDS) {
      if (this.#u32[c + C.slot] === 0) continue;
      this.#made.add(
        keyOf(this.#u32[c + C.uniqueLo] as number, this.#u32[c + C.uniqueHi] as number),
      );
    }
    const next = this.#u32[BASE + ALL.next] as number;
    const used: number[] = [];
    for (let slot = FIRST; slot < next; slot++) {
      (this.#u32[BASE + slot * WORDS + T.digestSize] === 0 ? this.#free : used).push(slot);
    }
    return used;
  }
}

const keyOf = (lo: number, hi: number): string => `${hi} ${lo}`;
