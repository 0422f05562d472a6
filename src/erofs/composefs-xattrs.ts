// The extended attributes of a composefs image: the marks of overlayfs, what is shared, and the bytes behind each inode.
// Filled by composefs-inodes.ts while it walks the tree; composefs.ts stores the shared area and the bodies.
// Follows: what mkcomposefs of composefs 1.0.8 writes, byte for byte (its images are known by their digest); erofs_fs.h of Linux 6.18.

import { xxh32 } from '../bytes/xxh32.js';
import { show } from '../tree/tree.js';
import {
  ErofsXattrEntry,
  ErofsXattrIbodyHeader,
  XATTR_FILTER_SEED,
  XATTR_PREFIXES,
} from './format.js';

const NAME_MAX = 255;
const VALUE_MAX = 0xffff;
/** Shared xattrs that one inode refers to; further ones are stored behind it. */
const SHARED_MAX = 128;
/** i_xattr_icount has 16 bits. */
const COUNT_MAX = 0xffff;

/** A name, with what follows from it. */
interface Name {
  readonly text: string;
  readonly index: number;
  /** Behind the prefix that `index` stands for; with index 0 the whole name. */
  readonly rest: string;
  /** Of the name filter, 1 bit set. */
  readonly bit: number;
  /** By value. */
  readonly items: Map<string, ComposefsXattr>;
}

/** A name and a value, of however many inodes. */
export class ComposefsXattr {
  readonly name: Name;
  /** latin1 */
  readonly value: string;
  /** Inodes that have it. */
  uses = 0;
  /** Byte in the shared area; -1: it is not there. */
  sharedAt = -1;

  constructor(name: Name, value: string) {
    this.name = name;
    this.value = value;
  }

  /** Bytes of the entry. */
  get size(): number {
    return (ErofsXattrEntry.size + this.name.rest.length + this.value.length + 3) & ~3;
  }

  /** Writes the entry into zeroed bytes. @returns where the next one begins. */
  encode(out: Buffer, at: number): number {
    const { rest, index } = this.name;
    out[at] = rest.length;
    out[at + 1] = index;
    out.writeUInt16LE(this.value.length, at + 2);
    const name = at + ErofsXattrEntry.size;
    out.write(rest, name, 'latin1');
    out.write(this.value, name + rest.length, 'latin1');
    return at + this.size;
  }
}

/** All xattrs of an image, each once. */
export class ComposefsXattrs {
  readonly #names = new Map<string, Name>();
  #shared: ComposefsXattr[] = [];
  /** Bytes of the shared area. */
  sharedSize = 0;

  /** Counts one use. @param value latin1. @throws RangeError for what an image cannot hold. */
  use(name: string, value: string): ComposefsXattr {
    const known = this.#names.get(name) ?? this.#name(name);
    let item = known.items.get(value);
    if (item === undefined) {
      if (value.length > VALUE_MAX) {
        throw new RangeError(
          `xattr ${show(name)}: its value has ${value.length} bytes, at most ${VALUE_MAX} can be stored`,
        );
      }
      item = new ComposefsXattr(known, value);
      known.items.set(value, item);
    }
    item.uses++;
    return item;
  }

  #name(text: string): Name {
    if (text === '' || text.length > NAME_MAX) {
      throw new RangeError(
        `xattr ${show(text)}: a name has 1 to ${NAME_MAX} bytes, this has ${text.length}`,
      );
    }
    let index = 0;
    // What has no prefix of the format is stored whole, with number 0: Linux does not show it.
    for (let i = 1; i < XATTR_PREFIXES.length && index === 0; i++) {
      const prefix = XATTR_PREFIXES[i];
      if (prefix !== undefined && text.startsWith(prefix)) index = i;
    }
    const rest = text.slice(XATTR_PREFIXES[index]?.length ?? 0);
    const hash = xxh32(Buffer.from(rest, 'latin1'), (XATTR_FILTER_SEED + index) >>> 0);
    const name = { text, index, rest, bit: 1 << (hash & 31), items: new Map() };
    this.#names.set(text, name);
    return name;
  }

  /** Decides what is shared: whatever has two uses. Call once, when all uses are counted. */
  settle(): void {
    const shared: ComposefsXattr[] = [];
    for (const { items } of this.#names.values()) {
      for (const item of items.values()) if (item.uses > 1) shared.push(item);
      items.clear();
    }
    shared.sort(descending);
    for (const item of shared) {
      item.sharedAt = this.sharedSize;
      this.sharedSize += item.size;
    }
    this.#shared = shared;
  }

  /** The shared area, in order. */
  get shared(): readonly ComposefsXattr[] {
    return this.#shared;
  }
}

/** By name, then length of the value, then value: all descending. */
function descending(a: ComposefsXattr, b: ComposefsXattr): number {
  if (a.name.text !== b.name.text) return a.name.text < b.name.text ? 1 : -1;
  if (a.value.length !== b.value.length) return b.value.length - a.value.length;
  return a.value < b.value ? 1 : -1;
}

/** Order of the xattrs of an inode. */
export function byName(a: ComposefsXattr, b: ComposefsXattr): number {
  return a.name.text < b.name.text ? -1 : 1;
}

/** Bytes behind an inode. @param items in their order, of settled xattrs. @throws RangeError when they are too many. */
export function bodySize(items: readonly ComposefsXattr[]): number {
  if (items.length === 0) return 0;
  let size = ErofsXattrIbodyHeader.size;
  let shared = 0;
  for (const item of items) {
    if (item.sharedAt >= 0 && shared < SHARED_MAX) {
      shared++;
      size += 4;
    } else {
      size += item.size;
    }
  }
  if (bodyCount(size) > COUNT_MAX) throw new RangeError(`has ${size} bytes of xattrs, too many`);
  return size;
}

/** i_xattr_icount of a body of `size` bytes. */
export function bodyCount(size: number): number {
  return size === 0 ? 0 : (size - ErofsXattrIbodyHeader.size) / 4 + 1;
}

/** Writes the bytes behind an inode into zeroed bytes. @param base byte of the shared area in its block. */
export function encodeBody(
  items: readonly ComposefsXattr[],
  base: number,
  out: Buffer,
  start: number,
): void {
  let at = start + ErofsXattrIbodyHeader.size;
  let present = 0;
  let shared = 0;
  for (const item of items) {
    present |= item.name.bit;
    if (item.sharedAt < 0 || shared === SHARED_MAX) continue;
    shared++;
    at = out.writeUInt32LE((base + item.sharedAt) / 4, at);
  }
  let seen = 0;
  for (const item of items) {
    if (item.sharedAt >= 0 && seen++ < SHARED_MAX) continue;
    at = item.encode(out, at);
  }
  out.writeUInt32LE(~present >>> 0, start);
  out[start + 4] = shared;
}
