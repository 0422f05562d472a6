// Metadata in memory: the few bytes of an image that inodes, names, xattrs and indexes are read from.
// Below every parser of this room: they ask for a range and read it in place, through `view` and `u8`.
// Four-way sets of 8 KiB units, a bounded amount whatever the image says; every range is checked against its size.

import type { ByteSource } from '../bytes/source.js';
import { ErofsError } from './errors.js';

/** Bytes that are read at once, at least: neighbouring inodes and names are asked for next. */
const UNIT_BITS = 13;
const WAYS = 4;
/** Sets of units: 4 MiB with units of 8 KiB. Memory that is never touched costs nothing. */
const SETS = 128;

/** Cached random access to the bytes of the primary device, or of the metabox. */
export class MetaCache {
  /** The cache itself: what at() returns is an offset into it. */
  readonly u8: Uint8Array;
  readonly view: DataView;
  /** Bytes of the space. */
  readonly size: number;
  /** True for the metabox; tells errors and addresses apart. */
  readonly metabox: boolean;
  readonly #source: ByteSource;
  readonly #unit: number;
  /** Number of the unit in each way of each set, or -1. */
  readonly #tags = new Float64Array(WAYS * SETS).fill(-1);
  /** Way of each set that goes next. */
  readonly #next = new Uint8Array(SETS);
  /** Where ranges are put together that lie in two units. */
  readonly #scratch: number;
  #lastUnit = -1;
  #lastAt = 0;

  /** @param blockSize bytes; a range of one block at a multiple of it is never copied. */
  constructor(source: ByteSource, blockSize: number, metabox = false) {
    this.#source = source;
    this.size = source.size;
    this.metabox = metabox;
    this.#unit = Math.max(2 ** UNIT_BITS, blockSize);
    this.#scratch = WAYS * SETS * this.#unit;
    const buffer = new ArrayBuffer(this.#scratch + this.#unit);
    this.u8 = new Uint8Array(buffer);
    this.view = new DataView(buffer);
  }

  /**
   * Makes `length` bytes (one block at most) at byte `pos` readable.
   * @param structure and `field`: what is being read, for the error.
   * @returns their offset in `u8` and `view`, valid until the next call of at() or copy().
   * @throws ErofsError when the image ends before.
   */
  at(pos: number, length: number, structure: string, field: string): number {
    const unit = Math.floor(pos / this.#unit);
    const from = pos - unit * this.#unit;
    if (!(pos >= 0 && pos + length <= this.size)) this.#outside(pos, length, structure, field);
    if (unit === this.#lastUnit && from + length <= this.#unit) return this.#lastAt + from;
    if (from + length <= this.#unit) return this.#load(unit) + from;
    this.#gather(pos, this.#scratch, length);
    return this.#scratch;
  }

  /** Copies `length` bytes, any number, from byte `pos` to `out` at `to`. @throws as at() */
  copy(
    pos: number,
    out: Uint8Array,
    to: number,
    length: number,
    structure: string,
    field: string,
  ): void {
    if (!(pos >= 0 && pos + length <= this.size)) this.#outside(pos, length, structure, field);
    while (length > 0) {
      const unit = Math.floor(pos / this.#unit);
      const from = pos - unit * this.#unit;
      const n = Math.min(length, this.#unit - from);
      const at = this.#load(unit) + from;
      out.set(this.u8.subarray(at, at + n), to);
      pos += n;
      to += n;
      length -= n;
    }
  }

  #gather(pos: number, to: number, length: number): void {
    while (length > 0) {
      const unit = Math.floor(pos / this.#unit);
      const from = pos - unit * this.#unit;
      const n = Math.min(length, this.#unit - from);
      const at = this.#load(unit) + from;
      this.u8.copyWithin(to, at, at + n);
      pos += n;
      to += n;
      length -= n;
    }
  }

  /** @returns where the unit lies in `u8`. The space has at least one byte in it. */
  #load(unit: number): number {
    const set = unit % SETS;
    const first = set * WAYS;
    for (let way = 0; way < WAYS; way++) {
      if (this.#tags[first + way] === unit) return this.#use(unit, first + way);
    }
    const way = this.#next[set] as number;
    this.#next[set] = (way + 1) % WAYS;
    const slot = first + way;
    const at = slot * this.#unit;
    const start = unit * this.#unit;
    this.#tags[slot] = -1;
    this.#lastUnit = -1;
    const n = Math.min(this.#unit, this.size - start);
    this.#source.read(start, this.u8.subarray(at, at + n));
    this.#tags[slot] = unit;
    return this.#use(unit, slot);
  }

  #use(unit: number, slot: number): number {
    this.#lastUnit = unit;
    this.#lastAt = slot * this.#unit;
    return this.#lastAt;
  }

  #outside(pos: number, length: number, structure: string, field: string): never {
    throw new ErofsError(
      { structure, field, at: pos, metabox: this.metabox },
      `${length} bytes lie outside the ${this.metabox ? 'metabox' : 'image'} of ${this.size} bytes`,
    );
  }
}
