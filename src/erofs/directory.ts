// Directories: names sorted in blocks, searched where they lie.
// Called by image.ts for lookups and listings; names are bytes and stay so.
// Follows: erofs_namei() (fs/erofs/namei.c) and erofs_readdir() (fs/erofs/dir.c) of Linux 6.18.

import type { DataReader } from './data.js';
import { corrupt, ErofsError } from './errors.js';
import { EROFS_NAME_LEN, ErofsDirent, Layout } from './format.js';
import { type Inode, tailAt } from './inode.js';
import { type Nid, toNid } from './nid.js';
import type { Volume } from './volume.js';

const DIRENT = ErofsDirent.size;
const NAMEOFF = ErofsDirent.at.nameoff;
const FILE_TYPE = ErofsDirent.at.file_type;
const SLASH = 0x2f;

/**
 * Receives an entry of a directory.
 * @param name a view, good until the callback returns.
 * @param type one of FileType, as the entry says.
 * @param next position of the entry behind it, for list()'s `from`.
 * @returns false to stop.
 */
export type DirentCallback = (name: Uint8Array, nid: Nid, type: number, next: number) => unknown;

/**
 * As DirentCallback, for those who list much: the name has bytes `start` to `end` of `bytes`, good until it returns.
 */
export type DirentVisitor = (
  bytes: Uint8Array,
  start: number,
  end: number,
  nid: Nid,
  type: number,
  next: number,
) => unknown;

/** Looks up names and lists them. Not for use by two at once, but a callback may list other directories. */
export class DirectoryReader {
  readonly #volume: Volume;
  readonly #data: DataReader;
  // The block in use: bytes, offset of the first, bytes from there on, number of entries.
  #u8: Uint8Array = new Uint8Array(0);
  #view: DataView = new DataView(new ArrayBuffer(0));
  #at = 0;
  #length = 0;
  #count = 0;
  /** Blocks that do not lie in the metadata cache are put together here. */
  #block: Uint8Array | undefined;
  #blockView: DataView | undefined;
  /** Blocks that listings walk over: one a level of nested listings. */
  readonly #copies: Uint8Array[] = [];
  #depth = 0;
  // Where the last lookup ended: the next one is often for the same name, or for the one behind it.
  #hintDir: Nid | undefined;
  #hintBlock = 0;
  #hintEntry = 0;

  constructor(volume: Volume, data: DataReader) {
    this.#volume = volume;
    this.#data = data;
  }

  /**
   * Finds a name of `length` bytes at `from` of `name`.
   * @returns its nid, undefined when it is not there. @throws ErofsError
   */
  lookup(dir: Inode, name: Uint8Array, from: number, length: number): Nid | undefined {
    if (length === 0 || length > EROFS_NAME_LEN) return undefined;
    if (dir.nid === this.#hintDir) {
      const nid = this.#lookupNear(dir, name, from, length);
      if (nid !== undefined) return nid;
    }
    // The block: the last one whose first name is not behind the name.
    let low = 0;
    let high = Math.ceil(dir.size / this.#volume.sb.blockSize) - 1;
    let loaded = -1;
    while (low <= high) {
      const mid = Math.floor((low + high) / 2);
      this.#load(dir, mid);
      loaded = mid;
      const order = this.#compare(dir, 0, name, from, length);
      if (order === 0) return this.#found(dir, mid, 0);
      if (order < 0) high = mid - 1;
      else low = mid + 1;
    }
    if (high < 0) return undefined;
    if (loaded !== high) this.#load(dir, high);
    let first = 1;
    let last = this.#count - 1;
    while (first <= last) {
      const mid = (first + last) >>> 1;
      const order = this.#compare(dir, mid, name, from, length);
      if (order === 0) return this.#found(dir, high, mid);
      if (order < 0) last = mid - 1;
      else first = mid + 1;
    }
    return undefined;
  }

  /** Tries the name that was found last, and the one behind it. @returns undefined when it is neither. */
  #lookupNear(dir: Inode, name: Uint8Array, from: number, length: number): Nid | undefined {
    let block = this.#hintBlock;
    let entry = this.#hintEntry;
    this.#load(dir, block);
    if (entry >= this.#count) return undefined;
    const order = this.#compare(dir, entry, name, from, length);
    if (order < 0) return undefined;
    if (order > 0) {
      if (++entry === this.#count) {
        entry = 0;
        if (++block * this.#volume.sb.blockSize >= dir.size) return undefined;
        this.#load(dir, block);
      }
      if (this.#compare(dir, entry, name, from, length) !== 0) return undefined;
    }
    return this.#found(dir, block, entry);
  }

  /** @returns the nid of an entry of the block in use. */
  #found(dir: Inode, block: number, entry: number): Nid {
    this.#hintDir = dir.nid;
    this.#hintBlock = block;
    this.#hintEntry = entry;
    return this.#nid(dir, entry);
  }

  /**
   * Calls back for every entry, "." and ".." among them (unless the directory has none), in the order of the disk.
   * @param from 0, or the `next` of an entry: the listing goes on behind it.
   * @throws ErofsError
   */
  list(dir: Inode, callback: DirentCallback, from: number): void {
    this.visit(
      dir,
      (bytes, start, end, nid, type, next) => callback(bytes.subarray(start, end), nid, type, next),
      from,
    );
  }

  /** As list(), without a view a name. @throws ErofsError */
  visit(dir: Inode, visitor: DirentVisitor, from: number): void {
    const { blockSize } = this.#volume.sb;
    const blocks = Math.ceil(dir.size / blockSize);
    const copy = (this.#copies[this.#depth] ??= new Uint8Array(blockSize));
    const view = new DataView(copy.buffer);
    this.#depth++;
    try {
      let index = Math.floor(from / blockSize);
      let i = Math.floor((from - index * blockSize) / DIRENT);
      for (; index < blocks; index++) {
        this.#load(dir, index);
        const length = this.#length;
        const count = this.#count;
        copy.set(this.#u8.subarray(this.#at, this.#at + length));
        for (; i < count; i++) {
          const o = i * DIRENT;
          const start = view.getUint16(o + NAMEOFF, true);
          const end = this.#nameEnd(dir, index, i, copy, view, 0, length, count);
          for (let k = start; k < end; k++) {
            // getdents(2) of the kernel gives EIO; no path must be made of such a name.
            if (copy[k] === SLASH || copy[k] === 0) {
              this.#bad(dir, 'nameoff', index, i, 'a slash or NUL in a name');
            }
          }
          const nid = toNid(view.getUint32(o, true), view.getUint32(o + 4, true));
          if (nid === undefined) this.#bad(dir, 'nid', index, i, 'no image has so many inodes');
          // A listing goes on at the block behind, rather than at an entry behind the last one.
          const next = i + 1 < count ? index * blockSize + o + DIRENT : (index + 1) * blockSize;
          const type = copy[o + FILE_TYPE] as number;
          if (visitor(copy, start, end, nid, type, next) === false) return;
        }
        i = 0;
      }
    } finally {
      this.#depth--;
    }
  }

  /** Makes a block the one in use. */
  #load(dir: Inode, index: number): void {
    const { sb } = this.#volume;
    const start = index * sb.blockSize;
    const length = Math.min(sb.blockSize, dir.size - start);
    this.#length = length;
    const isTail = dir.layout === Layout.FLAT_INLINE && start + sb.blockSize >= dir.size;
    const flat = dir.layout === Layout.FLAT_PLAIN || dir.layout === Layout.FLAT_INLINE;
    const at = isTail ? tailAt(dir) : (dir.startBlock + index) * sb.blockSize;
    if (isTail && (at % sb.blockSize) + length > sb.blockSize) {
      this.#bad(dir, 'i_size', index, 0, `inline data of ${length} bytes crosses a block`);
    }
    if (isTail || (flat && dir.startBlock >= 0 && this.#volume.isPrimary(at, length))) {
      // Data blocks are on the primary device also for inodes in the metabox; inline data is not.
      const meta = isTail ? this.#volume.space(dir.metabox) : this.#volume.meta;
      this.#at = meta.at(at, length, 'erofs_dirent', 'nameoff');
      this.#u8 = meta.u8;
      this.#view = meta.view;
    } else {
      this.#block ??= new Uint8Array(sb.blockSize);
      this.#blockView ??= new DataView(this.#block.buffer);
      this.#data.read(dir, this.#block.subarray(0, length), start);
      this.#at = 0;
      this.#u8 = this.#block;
      this.#view = this.#blockView;
    }
    const first = length < DIRENT ? 0 : this.#view.getUint16(this.#at + NAMEOFF, true);
    if (first < DIRENT || first >= length || first % DIRENT !== 0) {
      this.#bad(dir, 'nameoff', index, 0, `the first name is at byte ${first} of ${length}`);
    }
    this.#count = first / DIRENT;
  }

  /** End of the name of entry `i`, checked: it has 1 to 255 bytes and lies behind the entries of the block. */
  #nameEnd(
    dir: Inode,
    index: number,
    i: number,
    u8: Uint8Array,
    view: DataView,
    at: number,
    length: number,
    count: number,
  ): number {
    const o = at + i * DIRENT;
    const start = view.getUint16(o + NAMEOFF, true);
    let end = length;
    if (i + 1 < count) end = view.getUint16(o + DIRENT + NAMEOFF, true);
    else if (start < length) {
      // The last name ends at a NUL, or with the block.
      end = start;
      while (end < length && u8[at + end] !== 0) end++;
    }
    if (start < count * DIRENT || end <= start || end > length || end - start > EROFS_NAME_LEN) {
      this.#bad(dir, 'nameoff', index, i, `a name from byte ${start} to ${end} of ${length}`);
    }
    return end;
  }

  /** Order of a name and entry `i` of the block in use: below 0 when the name comes first. */
  #compare(dir: Inode, i: number, name: Uint8Array, from: number, length: number): number {
    const u8 = this.#u8;
    const at = this.#at;
    const end = at + this.#nameEnd(dir, -1, i, u8, this.#view, at, this.#length, this.#count);
    let p = at + this.#view.getUint16(at + i * DIRENT + NAMEOFF, true);
    const stop = from + length;
    for (let k = from; k < stop; k++, p++) {
      if (p === end) return 1;
      const difference = (name[k] as number) - (u8[p] as number);
      if (difference !== 0) return difference;
    }
    return p === end ? 0 : -1;
  }

  #nid(dir: Inode, i: number): Nid {
    const o = this.#at + i * DIRENT;
    const nid = toNid(this.#view.getUint32(o, true), this.#view.getUint32(o + 4, true));
    return nid ?? this.#bad(dir, 'nid', -1, i, 'no image has so many inodes');
  }

  #bad(dir: Inode, field: string, index: number, i: number, what: string): never {
    const block = index < 0 ? 'a block' : `block ${index}`;
    const detail = `entry ${i} in ${block} of directory nid ${dir.nid}: ${what}`;
    if (!dir.metabox) corrupt('erofs_dirent', field, dir.at, detail);
    throw new ErofsError({ structure: 'erofs_dirent', field, at: dir.at, metabox: true }, detail);
  }
}
