// The entries of a directory as of one moment, in the order of a hash of their names; cookies are made from those hashes.
// Where the layers never change, theirs is the order: who reads on then finds neighbours beside each other.
// Filled and read by readdir.ts, kept by node in the overlay's context, and made again at any time.
// A cookie says where a name comes in the order, not where it lies in memory: it stays valid while entries come and go,
// and for another snapshot, or another server (telldir(3), seekdir(3)). 31 bits, so that 32-bit programs can use it.

import { u8 } from '../linux/memory.js';
import { hashName } from '../vfs/names.js';

/** A record: inode number (two u32), type, name length, name. */
const HEAD = 10;

/** Cookies 0 and 1 are "." and "..". */
const FIRST = 2;
const COOKIE_MAX = 0x7ffffffe;
/** Entries are numbered in 22 bits while they are sorted. */
const ENTRY_LIMIT = 1 << 22;

export class Snapshot {
  private buffer = Buffer.allocUnsafe(1024);
  length = 0;
  /** Something in the directory has changed since: whoever starts to read takes a new one. */
  stale = false;
  private readonly inOrder: boolean;
  private hashes: number[] = [];
  private starts: number[] = [];
  /** In order: cookies, and where the records lie. Made by sort() where the order is another than that of add(). */
  private cookies: Uint32Array = new Uint32Array(0);
  private offsets: Uint32Array = new Uint32Array(0);

  /** @param inOrder the entries stay in the order of add(), which is the same each time. */
  constructor(inOrder = false) {
    this.inOrder = inOrder;
  }

  /** Entries. */
  get count(): number {
    return this.starts.length;
  }

  /** About the memory it takes, bytes. */
  get weight(): number {
    return this.buffer.length + this.count * 24;
  }

  /** @returns false when the directory is too large (4,194,304 entries). */
  add(name: number, nameLen: number, inoLo: number, inoHi: number, type: number): boolean {
    if (this.starts.length >= ENTRY_LIMIT) return false;
    const need = this.length + HEAD + nameLen;
    if (need > this.buffer.length) {
      const grown = Buffer.allocUnsafe(Math.max(need, this.buffer.length * 2));
      this.buffer.copy(grown, 0, 0, this.length);
      this.buffer = grown;
    }
    const { buffer, length } = this;
    buffer.writeUInt32LE(inoLo, length);
    buffer.writeUInt32LE(inoHi, length + 4);
    buffer[length + 8] = type;
    buffer[length + 9] = nameLen;
    for (let i = 0; i < nameLen; i++) buffer[length + HEAD + i] = u8[name + i] as number;
    if (!this.inOrder) this.hashes.push(hashName(0, name, nameLen) >>> 1);
    this.starts.push(length);
    this.length = need;
    return true;
  }

  /** Puts the entries in order; after the last add(), before the first find(). */
  sort(): void {
    const { hashes, starts } = this;
    if (this.inOrder) return;
    const keys = new Float64Array(starts.length);
    for (let i = 0; i < keys.length; i++) keys[i] = (hashes[i] as number) * ENTRY_LIMIT + i;
    keys.sort();
    this.cookies = new Uint32Array(keys.length);
    this.offsets = new Uint32Array(keys.length);
    let last = FIRST - 1;
    for (let i = 0; i < keys.length; i++) {
      const key = keys[i] as number;
      // Names with the same hash follow each other; only they may move when one of them comes or goes.
      last = Math.min(Math.max(last + 1, Math.floor(key / ENTRY_LIMIT)), COOKIE_MAX);
      this.cookies[i] = last;
      this.offsets[i] = starts[key % ENTRY_LIMIT] as number;
    }
    this.hashes = [];
  }

  /** Position in the order of the first entry whose cookie is at least `cookie`; `count` when there is none. */
  find(cookie: number): number {
    if (this.inOrder) return Math.min(Math.max(cookie - FIRST, 0), this.count);
    let low = 0;
    let high = this.cookies.length;
    while (low < high) {
      const middle = (low + high) >>> 1;
      if ((this.cookies[middle] as number) < cookie) low = middle + 1;
      else high = middle;
    }
    return low;
  }

  /** Cookie of the entry at a position; the one after it is where reading goes on. */
  cookie(position: number): number {
    return this.inOrder ? position + FIRST : (this.cookies[position] as number);
  }

  /** Where the record at a position of the order lies; for the accessors below. */
  record(position: number): number {
    return (this.inOrder ? this.starts : this.offsets)[position] as number;
  }

  /** Where the `i`th record added lies. */
  added(i: number): number {
    return this.starts[i] as number;
  }

  inoLo(at: number): number {
    return this.buffer.readUInt32LE(at);
  }

  inoHi(at: number): number {
    return this.buffer.readUInt32LE(at + 4);
  }

  setIno(at: number, lo: number, hi: number): void {
    this.buffer.writeUInt32LE(lo, at);
    this.buffer.writeUInt32LE(hi, at + 4);
  }

  type(at: number): number {
    return this.buffer[at + 8] as number;
  }

  nameLength(at: number): number {
    return this.buffer[at + 9] as number;
  }

  /** One code unit a byte. */
  name(at: number): string {
    return this.buffer.toString('latin1', at + HEAD, at + HEAD + this.nameLength(at));
  }

  /** Copies the name and a NUL to an arena offset. */
  putName(at: number, to: number): void {
    const length = this.nameLength(at);
    for (let i = 0; i < length; i++) u8[to + i] = this.buffer[at + HEAD + i] as number;
    u8[to + length] = 0;
  }
}
