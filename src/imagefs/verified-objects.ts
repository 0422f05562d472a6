// Which objects were compared with their digests, and what they were then: nothing is hashed twice while it stays as it is.
// Asked by open-objects.ts before every open; a bounded table in the arena, so that a successor knows it too.
// A file counts as unchanged while device, inode, size, mtime and ctime are; see RACY for what that cannot tell.

import { Statx, statBuffer } from '../linux/files.js';
import { u32 } from '../linux/memory.js';

/** Words of an identity: ino, size, ctime, mtime (two each), both nanoseconds, device (two). */
export const IDENTITY_WORDS = 12;
const WORDS = IDENTITY_WORDS;
/** Words of a digest that are kept: 256 bits, of SHA-512 too. */
const DIGEST_WORDS = 8;
/** Word of a record that is 1 when the others are whole. */
const WHOLE = IDENTITY_WORDS + DIGEST_WORDS;
const RECORD = 24;
const WAYS = 4;
/** 65,536 objects: 6 MiB when all are in use. */
const SETS = 16384;

/**
 * Milliseconds. A file that was changed shortly before it was hashed may change again without its ctime telling (it is as
 * coarse as the timer tick on kernels before 6.13): that is not remembered, so the next open hashes it again.
 */
const RACY = 100;

/** What a file is, apart from its content. */
export type Identity = Uint32Array;

/** The identity of the file in statBuffer(). @param out to fill, absent: a new one. */
export function identityOfStat(out: Identity = new Uint32Array(WORDS)): Identity {
  const s = statBuffer() >>> 2;
  out[0] = u32[s + (Statx.ino >>> 2)] as number;
  out[1] = u32[s + (Statx.ino >>> 2) + 1] as number;
  out[2] = u32[s + (Statx.size >>> 2)] as number;
  out[3] = u32[s + (Statx.size >>> 2) + 1] as number;
  out[4] = u32[s + (Statx.ctime >>> 2)] as number;
  out[5] = u32[s + (Statx.ctime >>> 2) + 1] as number;
  out[6] = u32[s + (Statx.mtime >>> 2)] as number;
  out[7] = u32[s + (Statx.mtime >>> 2) + 1] as number;
  out[8] = u32[s + (Statx.ctime >>> 2) + 2] as number;
  out[9] = u32[s + (Statx.mtime >>> 2) + 2] as number;
  out[10] = u32[s + (Statx.dev_major >>> 2)] as number;
  out[11] = u32[s + (Statx.dev_minor >>> 2)] as number;
  return out;
}

export function sameIdentity(a: Identity, b: Identity): boolean {
  for (let i = 0; i < WORDS; i++) if (a[i] !== b[i]) return false;
  return true;
}

/** Whether a file with this identity was changed so shortly before `now` (milliseconds) that it may change unnoticed. */
export function isRacy(identity: Identity, now: number): boolean {
  const ctime = ((identity[5] as number) | 0) * 0x1_0000_0000 + (identity[4] as number);
  return now - (ctime * 1000 + (identity[8] as number) / 1e6) < RACY;
}

export class VerifiedObjects {
  readonly #table: Uint32Array;
  /** Way of each set that goes next. */
  readonly #next = new Uint8Array(SETS);

  /** @param table VERIFIED_SIZE bytes of the arena. */
  constructor(table: Uint32Array = new Uint32Array(SETS * WAYS * RECORD)) {
    this.#table = table;
  }

  /** @param digest its bytes, 32 at least. */
  has(identity: Identity, digest: Uint8Array): boolean {
    return this.#find(identity, digest) >= 0;
  }

  add(identity: Identity, digest: Uint8Array): void {
    if (this.#find(identity, digest) >= 0) return;
    const set = this.#set(digest);
    const way = this.#next[set] as number;
    this.#next[set] = (way + 1) % WAYS;
    const at = (set * WAYS + way) * RECORD;
    // Killed in between, this server leaves a record that says nothing, never one of two objects.
    this.#table[at + WHOLE] = 0;
    this.#table.set(identity, at);
    for (let i = 0; i < DIGEST_WORDS; i++) this.#table[at + WORDS + i] = word(digest, i);
    this.#table[at + WHOLE] = 1;
  }

  #set(digest: Uint8Array): number {
    return word(digest, 0) % SETS;
  }

  #find(identity: Identity, digest: Uint8Array): number {
    const first = this.#set(digest) * WAYS;
    for (let way = 0; way < WAYS; way++) {
      const at = (first + way) * RECORD;
      if (this.#holds(at, identity, digest)) return at;
    }
    return -1;
  }

  #holds(at: number, identity: Identity, digest: Uint8Array): boolean {
    const table = this.#table;
    if (table[at + WHOLE] !== 1) return false;
    for (let i = 0; i < WORDS; i++) if (table[at + i] !== identity[i]) return false;
    for (let i = 0; i < DIGEST_WORDS; i++) {
      if (table[at + WORDS + i] !== word(digest, i)) return false;
    }
    return true;
  }
}

function word(digest: Uint8Array, i: number): number {
  const at = i * 4;
  return (
    ((digest[at] as number) |
      ((digest[at + 1] as number) << 8) |
      ((digest[at + 2] as number) << 16) |
      ((digest[at + 3] as number) << 24)) >>>
    0
  );
}
