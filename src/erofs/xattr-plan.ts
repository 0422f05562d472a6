// Extended attributes of an image: which are stored once for all, and the bytes that lie behind each inode.
// Filled by plan.ts while it walks the tree; write.ts stores the shared area and the long prefixes.
// Follows: erofs_fs.h of Linux 6.18 (erofs_xattr_ibody_header, erofs_xattr_entry), fs/erofs/xattr.c.

import { xxh32 } from '../bytes/xxh32.js';
import { show } from '../tree/tree.js';
import {
  ErofsXattrEntry,
  ErofsXattrIbodyHeader,
  XATTR_FILTER_SEED,
  XATTR_LONG_PREFIX,
  XATTR_PREFIXES,
} from './format.js';
import { BLOCK, BuildOptionError } from './write-options.js';

/** Bytes of inline xattrs that i_xattr_icount can say. */
const MAX_BODY = ErofsXattrIbodyHeader.size + 0xfffe * 4;
const MAX_VALUE = 0xffff;
const MAX_NAME = 0xff;
const MAX_SHARED = 0xff;

/** A name and a value, however many inodes have it. */
interface Item {
  /** Place in the order of finding. */
  readonly number: number;
  readonly index: number;
  /** Behind the prefix that `index` stands for. */
  readonly rest: string;
  readonly value: Uint8Array;
  /** Bit of the name filter. */
  readonly bit: number;
  /** Inodes that have it. */
  uses: number;
  /** Place in the shared area in units of 4 bytes; -1: it is not there. */
  id: number;
}

/** The xattrs of an inode; inodes with the same ones share the object. */
export class XattrSet {
  readonly items: readonly Item[];
  /** Bytes behind the inode; known after XattrTable.settle(). */
  size = 0;
  #body: Uint8Array | undefined;

  constructor(items: readonly Item[]) {
    this.items = items;
  }

  /** i_xattr_icount */
  get count(): number {
    return (this.size - ErofsXattrIbodyHeader.size) / 4 + 1;
  }

  /** The bytes behind the inode, borrowed. @param hasFilter fills h_name_filter. */
  body(hasFilter: boolean): Uint8Array {
    this.#body ??= this.#encode(hasFilter);
    return this.#body;
  }

  /** @throws RangeError when there is more than an inode can have. */
  measure(): void {
    const { shared, inline } = this.#split();
    let size = ErofsXattrIbodyHeader.size + shared.length * 4;
    for (const item of inline) size += entrySize(item);
    if (size > MAX_BODY) throw new RangeError(`${size} bytes of xattrs, at most ${MAX_BODY}`);
    this.size = size;
  }

  #split(): { shared: readonly Item[]; inline: readonly Item[] } {
    const shared = this.items.filter((item) => item.id >= 0).slice(0, MAX_SHARED);
    const kept = new Set(shared);
    return { shared, inline: this.items.filter((item) => !kept.has(item)) };
  }

  #encode(hasFilter: boolean): Uint8Array {
    const out = new Uint8Array(this.size);
    const view = new DataView(out.buffer);
    const { shared, inline } = this.#split();
    let present = 0;
    for (const item of this.items) present |= 1 << item.bit;
    ErofsXattrIbodyHeader.encode(view, {
      h_name_filter: hasFilter ? ~present >>> 0 : 0,
      h_shared_count: shared.length,
    });
    let at = ErofsXattrIbodyHeader.size;
    for (const item of shared) {
      view.setUint32(at, item.id, true);
      at += 4;
    }
    for (const item of inline) at = encodeEntry(item, view, at);
    return out;
  }
}

function entrySize(item: Item): number {
  const size = ErofsXattrEntry.size + item.rest.length + item.value.length;
  return Math.ceil(size / 4) * 4;
}

/** @returns where the next one begins. */
function encodeEntry(item: Item, view: DataView, at: number): number {
  ErofsXattrEntry.encode(
    view,
    {
      e_name_len: item.rest.length,
      e_name_index: item.index,
      e_value_size: item.value.length,
    },
    at,
  );
  const bytes = new Uint8Array(view.buffer, view.byteOffset, view.byteLength);
  const name = at + ErofsXattrEntry.size;
  for (let i = 0; i < item.rest.length; i++) bytes[name + i] = item.rest.charCodeAt(i);
  bytes.set(item.value, name + item.rest.length);
  return at + entrySize(item);
}

/** A prefix that has a number: of the format, or a long one of this image. */
interface Prefix {
  readonly text: string;
  readonly index: number;
  /** Number and length of the format's prefix that it begins with. */
  readonly base: number;
  readonly baseLength: number;
}

/** All xattrs of an image. */
export class XattrTable {
  /** Longest first. */
  readonly #prefixes: readonly Prefix[];
  readonly #long: readonly Prefix[];
  readonly #items = new Map<string, Item>();
  readonly #sets = new Map<string, XattrSet>();
  /** Trees share the map of equal sets: the way around looking at all values again. */
  readonly #known = new Map<ReadonlyMap<string, Uint8Array>, XattrSet>();

  /** @throws BuildOptionError when a long prefix begins with none of the format's, or is too long. */
  constructor(longPrefixes: readonly string[]) {
    const base: Prefix[] = [];
    XATTR_PREFIXES.forEach((text, index) => {
      if (text !== undefined) base.push({ text, index, base: index, baseLength: text.length });
    });
    this.#long = longPrefixes.map((text, i) => {
      const own = base.find((one) => text.startsWith(one.text));
      if (own === undefined || text.length > MAX_NAME) {
        throw new BuildOptionError(`xattr prefix ${show(text)} is none that EROFS can store`);
      }
      return { ...own, text, index: XATTR_LONG_PREFIX | i };
    });
    this.#prefixes = [...this.#long, ...base].sort((a, b) => b.text.length - a.text.length);
  }

  /**
   * Counts the xattrs of one inode.
   * @throws RangeError that names the xattr which EROFS cannot store.
   */
  add(xattrs: ReadonlyMap<string, Uint8Array>): XattrSet {
    let set = this.#known.get(xattrs);
    if (set === undefined) {
      const items = [...xattrs]
        .sort(([a], [b]) => (a < b ? -1 : 1))
        .map(([n, v]) => this.#item(n, v));
      const key = items.map((item) => item.number).join(',');
      set = this.#sets.get(key) ?? new XattrSet(items);
      this.#sets.set(key, set);
      this.#known.set(xattrs, set);
    }
    for (const item of set.items) item.uses++;
    return set;
  }

  #item(name: string, value: Uint8Array): Item {
    const prefix = this.#prefixes.find((one) => name.startsWith(one.text));
    if (prefix === undefined) throw new RangeError(`xattr ${show(name)}: EROFS has no such names`);
    const rest = name.slice(prefix.text.length);
    if (rest.length > MAX_NAME) throw new RangeError(`xattr ${show(name)}: its name is too long`);
    if (value.length > MAX_VALUE) {
      throw new RangeError(
        `xattr ${show(name)}: its value has ${value.length} bytes, EROFS stores at most ${MAX_VALUE}`,
      );
    }
    const key = `${name}\0${Buffer.from(value.buffer, value.byteOffset, value.length).toString('latin1')}`;
    let item = this.#items.get(key);
    if (item === undefined) {
      const hashed = Buffer.from(name.slice(prefix.baseLength), 'latin1');
      const bit = xxh32(hashed, (XATTR_FILTER_SEED + prefix.base) >>> 0) & 31;
      const number = this.#items.size;
      item = { number, index: prefix.index, rest, value, bit, uses: 0, id: -1 };
      this.#items.set(key, item);
    }
    return item;
  }

  get isEmpty(): boolean {
    return this.#items.size === 0;
  }

  /**
   * Decides what is shared and with that the size of every set.
   * @param tolerance more uses than this make an item shared.
   * @returns the shared area, whole blocks; empty when nothing is shared.
   */
  settle(tolerance: number): Uint8Array {
    const shared: Item[] = [];
    let size = 0;
    for (const item of this.#items.values()) {
      if (item.uses <= tolerance) continue;
      item.id = size / 4;
      size += entrySize(item);
      shared.push(item);
    }
    for (const set of this.#sets.values()) set.measure();
    const area = new Uint8Array(Math.ceil(size / BLOCK) * BLOCK);
    const view = new DataView(area.buffer);
    for (const item of shared) encodeEntry(item, view, item.id * 4);
    return area;
  }

  /** The records of the long prefixes: each a u16 length, the number of its beginning and the rest, padded to 4 bytes. */
  longPrefixes(): Uint8Array {
    const records = this.#long.map((prefix) => {
      const infix = prefix.text.slice(prefix.baseLength);
      const record = Buffer.alloc(Math.ceil((3 + infix.length) / 4) * 4);
      record.writeUInt16LE(1 + infix.length, 0);
      record.writeUInt8(prefix.base, 2);
      record.write(infix, 3, 'latin1');
      return record;
    });
    return Buffer.concat(records);
  }
}
