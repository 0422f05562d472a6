// The entries of an open directory as of one moment, in one growing buffer; cookies are byte positions in it.
// Filled and read by readdir.ts, kept by handle in the overlay's context.
// A cookie stays valid while entries come and go, as POSIX asks of telldir(3) and seekdir(3).

import { u8 } from '../linux/memory.js';

/** A record: inode number (two u32), type, name length, name; padded to 4 bytes. */
const HEAD = 10;

/** The entries of a directory as of one moment. */
export class Snapshot {
  private buffer = Buffer.alloc(1024);
  length = 0;
  /** Where the last answer ended: the cookie most likely to come next. */
  cursor = 0;

  add(name: number, nameLen: number, inoLo: number, inoHi: number, type: number): void {
    const need = this.length + HEAD + nameLen;
    if (need > this.buffer.length) {
      const grown = Buffer.alloc(Math.max(need, this.buffer.length * 2));
      this.buffer.copy(grown, 0, 0, this.length);
      this.buffer = grown;
    }
    const { buffer, length } = this;
    buffer.writeUInt32LE(inoLo, length);
    buffer.writeUInt32LE(inoHi, length + 4);
    buffer[length + 8] = type;
    buffer[length + 9] = nameLen;
    buffer.set(u8.subarray(name, name + nameLen), length + HEAD);
    this.length = need;
  }

  inoLo(at: number): number {
    return this.buffer.readUInt32LE(at);
  }

  inoHi(at: number): number {
    return this.buffer.readUInt32LE(at + 4);
  }

  type(at: number): number {
    return this.buffer[at + 8] as number;
  }

  nameLength(at: number): number {
    return this.buffer[at + 9] as number;
  }

  /** Copies the name and a NUL to an arena offset. */
  putName(at: number, to: number): void {
    const length = this.nameLength(at);
    u8.set(this.buffer.subarray(at + HEAD, at + HEAD + length), to);
    u8[to + length] = 0;
  }

  next(at: number): number {
    return at + HEAD + (this.buffer[at + 9] as number);
  }

  setIno(at: number, lo: number, hi: number): void {
    this.buffer.writeUInt32LE(lo, at);
    this.buffer.writeUInt32LE(hi, at + 4);
  }

  /** Whether `at` is where a record starts or the list ends; a cookie of another listing may not be. */
  isBoundary(at: number): boolean {
    if (at > this.length) return false;
    let p = 0;
    while (p < at) p = this.next(p);
    return p === at;
  }
}
