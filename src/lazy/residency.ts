// Which chunks of a layer are here: one byte a chunk, in a file that the loader and all servers of the layer map.
// Written by the loader alone (one process a layer, by its lock); read by servers between two requests.
// Crash safety: a byte is HERE once the content is verified and written, DURABLE once fdatasync(2) of the blob has returned.
// What is merely HERE counts only in the boot that wrote it: after a crash of the machine its content may never have reached the disk.

import { closeSync, fstatSync, ftruncateSync, openSync, readFileSync } from 'node:fs';
import { mapFile, nativeBytes, release, syncMapped } from '../linux/native-memory.js';

/** `VARVEMAP` */
const MAGIC = [0x56, 0x41, 0x52, 0x56, 0x45, 0x4d, 0x41, 0x50] as const;
const VERSION = 1;
/** Bytes before the first chunk's. */
const HEAD = 4096;
/** Offsets in the head, in u32 words. */
const W = { version: 2, count: 3, generation: 4, complete: 5, boot: 8 } as const;

/** What the byte of a chunk says. */
export const Here = { ABSENT: 0, HERE: 1, DURABLE: 2 } as const;

function bootId(): Uint8Array {
  const hex = readFileSync('/proc/sys/kernel/random/boot_id', 'latin1').trim().replaceAll('-', '');
  return Uint8Array.from(Buffer.from(hex, 'hex'));
}

/** A map that does not fit its table. */
export class ResidencyError extends Error {}

export class ResidencyMap {
  readonly count: number;
  readonly #address: number;
  readonly #size: number;
  readonly #words: Uint32Array;
  readonly #bytes: Uint8Array;

  private constructor(address: number, size: number, count: number) {
    this.#address = address;
    this.#size = size;
    this.count = count;
    const all = nativeBytes(address, size);
    this.#words = new Uint32Array(all.buffer, 0, HEAD / 4);
    this.#bytes = new Uint8Array(all.buffer, HEAD, count);
  }

  /**
   * Maps the file at `path`. The loader, which holds the layer's lock, passes `own`: it makes the file where there is none, and
   * takes back what an earlier boot had not synced. A server waits for the loader before it opens one.
   * @param count chunks of the table. @throws ResidencyError, or the error of open(2).
   */
  static open(path: string, count: number, own: boolean): ResidencyMap {
    const fd = openSync(path, own ? 'a+' : 'r+', 0o600);
    const size = HEAD + Math.max(count, 1);
    try {
      // A page beyond the end would end whoever touches it; and the file never shrinks, others may have it mapped.
      const found = fstatSync(fd).size;
      if (found > size || (!own && found < size)) {
        throw new ResidencyError('is that of another table');
      }
      if (own) ftruncateSync(fd, size);
      const map = new ResidencyMap(mapFile(fd, size), size, count);
      if (own) map.#own();
      else map.#check();
      return map;
    } finally {
      closeSync(fd);
    }
  }

  #isMarked(): boolean {
    const head = new Uint8Array(this.#words.buffer, 0, 8);
    return MAGIC.every((byte, i) => head[i] === byte);
  }

  #check(): void {
    if (!this.#isMarked() || this.#words[W.version] !== VERSION) {
      throw new ResidencyError('is no residency map of this version');
    }
    if (this.#words[W.count] !== this.count) throw new ResidencyError('is that of another table');
  }

  #own(): void {
    const boot = bootId();
    const known = new Uint8Array(this.#words.buffer, W.boot * 4, 16);
    if (!this.#isMarked()) {
      this.#bytes.fill(Here.ABSENT);
      this.#words[W.version] = VERSION;
      this.#words[W.count] = this.count;
      known.set(boot);
      syncMapped(this.#address, this.#size);
      new Uint8Array(this.#words.buffer, 0, 8).set(MAGIC);
      return;
    }
    this.#check();
    if (boot.every((byte, i) => known[i] === byte)) return;
    for (let i = 0; i < this.count; i++) {
      if (this.#bytes[i] === Here.HERE) this.#bytes[i] = Here.ABSENT;
    }
    // Before the boot is named: else a crash in between would leave bytes of the old one that count.
    syncMapped(this.#address, this.#size);
    known.set(boot);
  }

  /** Whether the content of chunk `i` is in the blob. */
  isHere(i: number): boolean {
    return this.#bytes[i] !== Here.ABSENT;
  }

  isDurable(i: number): boolean {
    return this.#bytes[i] === Here.DURABLE;
  }

  /** Whether chunks `from` to `to` (not included) are all here. */
  allHere(from: number, to: number): boolean {
    for (let i = from; i < to; i++) if (this.#bytes[i] === Here.ABSENT) return false;
    return true;
  }

  /** The first chunk at or behind `from` that is not here, `count` when all are. */
  nextAbsent(from: number): number {
    const at = this.#bytes.indexOf(Here.ABSENT, from);
    return at < 0 ? this.count : at;
  }

  /** The content of `i` was verified and written. */
  mark(i: number): void {
    if (this.#bytes[i] === Here.ABSENT) this.#bytes[i] = Here.HERE;
  }

  /** fdatasync(2) of the blob, begun after mark(i), has returned. */
  markDurable(i: number): void {
    if (this.#bytes[i] === Here.HERE) this.#bytes[i] = Here.DURABLE;
  }

  /**
   * Takes chunks back, before their content goes: whoever has read them meanwhile looks at `generation` afterwards, and reads
   * again where it has changed. On disk when this returns.
   */
  clear(list: Iterable<number>): void {
    this.#words[W.complete] = 0;
    for (const i of list) this.#bytes[i] = Here.ABSENT;
    this.#words[W.generation] = (this.generation + 1) >>> 0;
    this.sync();
  }

  /** How often chunks were taken back. A read of the blob is good when this is the same before and after it. */
  get generation(): number {
    return this.#words[W.generation] as number;
  }

  /** Everything is here and on disk: set by the loader at the end. */
  get isComplete(): boolean {
    return this.#words[W.complete] === 1;
  }

  setComplete(): void {
    this.#words[W.complete] = 1;
  }

  /** On disk when this returns. */
  sync(): void {
    syncMapped(this.#address, this.#size);
  }

  close(): void {
    release(this.#address, this.#size);
  }
}
