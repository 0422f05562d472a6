// The reply of READDIR and READDIRPLUS, filled entry by entry.
// One object a server thread; dispatch.ts begins it, the filesystem adds entries, dispatch.ts sends what is there.
// Follows: struct fuse_dirent and fuse_direntplus, ABI 7.45; entries are padded to multiples of 8 bytes.

import { u8, u32 } from '../linux/memory.js';
import { ENTRY_SIZE } from '../vfs/attr.js';
import type { DirSink } from '../vfs/filesystem.js';
import { FuseDirent } from './abi.js';

const DIRENT_SIZE = FuseDirent.size;

export class ReplySink implements DirSink {
  plus = false;
  entry = 0;
  /** Position behind the last entry. */
  last = 0;
  /** Seconds (two halves) and nanoseconds that names and attributes stay valid; set once by dispatch.ts. */
  readonly validity: readonly [lo: number, hi: number, nsec: number];
  #at = 0;
  #end = 0;

  constructor(validity: readonly [number, number, number]) {
    this.validity = validity;
  }

  /** Starts a reply of at most `size` bytes at arena offset `out` (8-byte aligned). */
  begin(out: number, size: number, plus: boolean): void {
    this.plus = plus;
    this.#at = out;
    this.#end = out + size;
    this.entry = out;
    this.last = 0;
    if (plus) u32.fill(0, out >>> 2, (out + ENTRY_SIZE) >>> 2);
  }

  /** Arena offset after the last entry. */
  get end(): number {
    return this.#at;
  }

  fits(nameLen: number): boolean {
    const head = this.plus ? ENTRY_SIZE + DIRENT_SIZE : DIRENT_SIZE;
    return this.#at + ((head + nameLen + 7) & ~7) <= this.#end;
  }

  add(
    inoLo: number,
    inoHi: number,
    offset: number,
    type: number,
    name: number,
    nameLen: number,
    bytes: Uint8Array = u8,
  ): void {
    if (!this.fits(nameLen)) throw new Error('readdir: add() without room');
    let at = this.#at;
    if (this.plus) {
      const e = at >>> 2;
      // nodeid 0 (".", "..", or a name without attributes): the kernel looks at nothing else.
      if (u32[e] !== 0 || u32[e + 1] !== 0) {
        const [lo, hi, nsec] = this.validity;
        u32[e + 4] = lo;
        u32[e + 5] = hi;
        u32[e + 6] = lo;
        u32[e + 7] = hi;
        u32[e + 8] = nsec;
        u32[e + 9] = nsec;
      }
      at += ENTRY_SIZE;
    }
    const k = at >>> 2;
    u32[k] = inoLo;
    u32[k + 1] = inoHi;
    u32[k + 2] = offset >>> 0;
    u32[k + 3] = Math.floor(offset / 0x1_0000_0000);
    u32[k + 4] = nameLen;
    u32[k + 5] = type;
    at += DIRENT_SIZE;
    for (let i = 0; i < nameLen; i++) u8[at + i] = bytes[name + i] as number;
    const next = (at + nameLen + 7) & ~7;
    for (let i = at + nameLen; i < next; i++) u8[i] = 0;
    this.#at = next;
    this.last = offset;
    this.entry = next;
    if (this.plus) u32.fill(0, next >>> 2, (next + ENTRY_SIZE) >>> 2);
  }
}
