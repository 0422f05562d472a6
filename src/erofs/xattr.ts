// Extended attributes: those behind the inode and those that inodes share.
// Called by image.ts; names are whole ("user.x") and Latin-1, one character a byte.
// Follows: erofs_getxattr() and erofs_listxattr() of Linux 6.18 (fs/erofs/xattr.c).

import { xxh32 } from '../bytes/xxh32.js';
import { corrupt, ErofsError, unsupported } from './errors.js';
import {
  FeatureCompat,
  XATTR_FILTER_SEED,
  XATTR_LONG_PREFIX,
  XATTR_LONG_PREFIX_MASK,
  XATTR_PREFIXES,
} from './format.js';
import type { Inode } from './inode.js';
import type { MetaCache } from './meta.js';
import type { Volume } from './volume.js';

/** A long prefix: the number of a short one, and bytes behind it. */
export interface LongPrefix {
  readonly base: number;
  readonly infix: string;
}

export interface Xattr {
  readonly name: string;
  readonly value: Uint8Array;
}

/** A name as it is looked for. */
interface Wanted {
  readonly index: number;
  /** The name behind the prefix. */
  readonly rest: string;
  /** The bit of h_name_filter that says "not here". */
  readonly bit: number;
}

/** An entry: where it is, and what its header says. */
interface Entry {
  meta: MetaCache;
  at: number;
  nameLength: number;
  index: number;
  valueSize: number;
}

const HEADER = 'erofs_xattr_ibody_header';
const ENTRY = 'erofs_xattr_entry';
const HEADER_SIZE = 12;
const ENTRY_SIZE = 4;
/** Names remembered with their hashes: a server asks for the same few all the time. */
const MOST_WANTED = 256;

export class XattrReader {
  readonly #volume: Volume;
  readonly #prefixes: readonly LongPrefix[];
  readonly #wanted = new Map<string, Wanted | undefined>();
  readonly #name = Buffer.alloc(256);

  constructor(volume: Volume, prefixes: readonly LongPrefix[]) {
    this.#volume = volume;
    this.#prefixes = prefixes;
  }

  /** @returns the value as fresh bytes, undefined when there is none. @throws ErofsError */
  get(inode: Inode, name: string): Uint8Array | undefined {
    if (inode.xattrSize === 0) return undefined;
    const wanted = this.#want(name);
    if (wanted === undefined) return undefined;
    if (this.#volume.sb.xattrFilter) {
      const meta = this.#volume.space(inode.metabox);
      const o = meta.at(inode.at + inode.isize, HEADER_SIZE, HEADER, 'h_name_filter');
      if ((meta.view.getUint32(o, true) & wanted.bit) !== 0) return undefined;
    }
    for (const entry of this.#entries(inode)) {
      if (this.#matches(entry, wanted)) return readValue(entry);
    }
    return undefined;
  }

  /** Names in the order of the disk: those behind the inode, then the shared ones. @throws ErofsError */
  list(inode: Inode): string[] {
    const names: string[] = [];
    if (inode.xattrSize === 0) return names;
    for (const entry of this.#entries(inode)) {
      const name = this.#nameOf(entry);
      if (name !== undefined) names.push(name);
    }
    return names;
  }

  /** Names with values, as list(). @throws ErofsError */
  all(inode: Inode, plain = false): Xattr[] {
    const xattrs: Xattr[] = [];
    if (inode.xattrSize === 0) return xattrs;
    for (const entry of this.#entries(inode)) {
      const name = this.#nameOf(entry, plain);
      if (name !== undefined) xattrs.push({ name, value: readValue(entry) });
    }
    return xattrs;
  }

  /** All entries of an inode. Each is good until the next. */
  *#entries(inode: Inode): Generator<Entry> {
    const { sb } = this.#volume;
    const inline = this.#volume.space(inode.metabox);
    const start = inode.at + inode.isize;
    if (inode.xattrSize === HEADER_SIZE) {
      unsupported('erofs_inode', 'i_xattr_icount', inode.at + 2, `1 (nid ${inode.nid})`);
    }
    const end = start + inode.xattrSize;
    const o = inline.at(start, HEADER_SIZE, HEADER, 'h_shared_count');
    const shared = inline.u8[o + 4] as number;
    let at = start + HEADER_SIZE + shared * 4;
    if (at > end) {
      const what = `${shared} ids in ${inode.xattrSize} bytes (nid ${inode.nid})`;
      corrupt(HEADER, 'h_shared_count', start + 4, what);
    }
    const entry: Entry = { meta: inline, at: 0, nameLength: 0, index: 0, valueSize: 0 };
    while (at < end) {
      readEntry(entry, inline, at);
      at += Math.ceil((ENTRY_SIZE + entry.nameLength + entry.valueSize) / 4) * 4;
      if (at > end) {
        const what = `${entry.valueSize} bytes reach beyond the inode's xattrs (nid ${inode.nid})`;
        corrupt(ENTRY, 'e_value_size', entry.at + 2, what);
      }
      yield entry;
    }
    const inMetabox = (sb.featureCompat & FeatureCompat.SHARED_EA_IN_METABOX) !== 0;
    const space = this.#volume.space(inMetabox);
    for (let i = 0; i < shared; i++) {
      const p = inline.at(start + HEADER_SIZE + i * 4, 4, HEADER, 'h_shared_xattrs');
      readEntry(entry, space, sb.xattrAt + inline.view.getUint32(p, true) * 4);
      yield entry;
    }
  }

  /** The prefix of a name and its hash; undefined when no image can have it. */
  #want(name: string): Wanted | undefined {
    if (this.#wanted.has(name)) return this.#wanted.get(name);
    let wanted: Wanted | undefined;
    for (let index = 1; index < XATTR_PREFIXES.length; index++) {
      const prefix = XATTR_PREFIXES[index];
      if (prefix === undefined || !name.startsWith(prefix)) continue;
      const rest = name.slice(prefix.length);
      const hash = xxh32(Buffer.from(rest, 'latin1'), XATTR_FILTER_SEED + index);
      wanted = { index, rest, bit: 1 << (hash & 31) };
      break;
    }
    if (this.#wanted.size >= MOST_WANTED) this.#wanted.clear();
    this.#wanted.set(name, wanted);
    return wanted;
  }

  #matches(entry: Entry, { index, rest }: Wanted): boolean {
    let infix = '';
    let base = entry.index;
    if ((base & XATTR_LONG_PREFIX) !== 0) {
      const prefix = this.#prefixes[base & XATTR_LONG_PREFIX_MASK];
      if (prefix === undefined) return false;
      ({ base, infix } = prefix);
    }
    if (base !== index || infix.length + entry.nameLength !== rest.length) return false;
    if (!rest.startsWith(infix)) return false;
    const { u8 } = entry.meta;
    const o = entry.meta.at(entry.at + ENTRY_SIZE, entry.nameLength, ENTRY, 'e_name');
    for (let i = 0; i < entry.nameLength; i++) {
      if (u8[o + i] !== rest.charCodeAt(infix.length + i)) return false;
    }
    return true;
  }

  /**
   * undefined for prefixes that have no name: of a later kernel, or for the image's own use.
   * @param plain names without a prefix too, which the kernel does not show.
   */
  #nameOf(entry: Entry, plain = false): string | undefined {
    let infix = '';
    let base = entry.index;
    if ((base & XATTR_LONG_PREFIX) !== 0) {
      const prefix = this.#prefixes[base & XATTR_LONG_PREFIX_MASK];
      if (prefix === undefined) return undefined;
      ({ base, infix } = prefix);
    }
    const prefix = base === 0 && plain ? '' : XATTR_PREFIXES[base];
    if (prefix === undefined) return undefined;
    const { meta, nameLength } = entry;
    meta.copy(entry.at + ENTRY_SIZE, this.#name, 0, nameLength, ENTRY, 'e_name');
    const rest = this.#name.toString('latin1', 0, nameLength);
    const name = prefix + infix + rest;
    if (name.includes('\0')) {
      throw new ErofsError(
        { structure: ENTRY, field: 'e_name', at: entry.at + ENTRY_SIZE, metabox: meta.metabox },
        'a name with a NUL',
      );
    }
    return name;
  }
}

function readEntry(entry: Entry, meta: MetaCache, at: number): void {
  const o = meta.at(at, ENTRY_SIZE, ENTRY, 'e_name_len');
  entry.meta = meta;
  entry.at = at;
  entry.nameLength = meta.u8[o] as number;
  entry.index = meta.u8[o + 1] as number;
  entry.valueSize = meta.view.getUint16(o + 2, true);
}

function readValue(entry: Entry): Uint8Array {
  const { meta, at, nameLength, valueSize } = entry;
  const value = new Uint8Array(valueSize);
  meta.copy(at + ENTRY_SIZE + nameLength, value, 0, valueSize, ENTRY, 'e_value');
  return value;
}
