// An opened EROFS image: inodes, names, data and xattrs, read from its bytes when they are asked for.
// The face of the reader: layer/, imagefs/, cli/ and check.ts use this; nothing but bounded caches stays in memory.
// Follows: fs/erofs of Linux 6.18; what its mount shows is what this shows.

import type { ByteSource } from '../bytes/source.js';
import { DataReader, type Fragments } from './data.js';
import { Decompressor } from './decompress.js';
import { DirectoryReader, type DirentCallback, type DirentVisitor } from './directory.js';
import { corrupt } from './errors.js';
import { ALGORITHM_NAMES, FeatureCompat } from './format.js';
import { type Inode, readInode } from './inode.js';
import { mapBlocks } from './map.js';
import { Kind, newMapping, Plain } from './mapping.js';
import { MetaCache } from './meta.js';
import { inMetabox, type Nid, nidToBigInt } from './nid.js';
import { PclusterCache } from './pcluster-cache.js';
import { checksumMatches, readSuperblock, type Superblock } from './superblock.js';
import { Volume } from './volume.js';
import { type LongPrefix, type Xattr, XattrReader } from './xattr.js';

export type { Inode } from './inode.js';

export interface ImageOptions {
  /** Bytes of decompressed data that are kept, about. */
  readonly cacheBytes?: number;
}

/** A run of a file's bytes that is stored. */
export interface Extent {
  /** First byte in the file, and bytes. */
  readonly at: number;
  readonly length: number;
  /** Where: on a device, behind the inode, or in the packed inode. */
  readonly where: 'device' | 'inline' | 'packed';
  /** Number of the extra device; 0: the primary one, or as its unified address says. */
  readonly device: number;
  /** First byte there, and bytes: of the pcluster when it is one, which several extents may share. */
  readonly storedAt: number;
  readonly stored: number;
  /** undefined: as it is; `plain`: in a pcluster, not compressed. */
  readonly algorithm: (typeof ALGORITHM_NAMES)[number] | 'plain' | undefined;
}

/** Bytes. */
const DEFAULT_CACHE = 16 * 1024 * 1024;
/** Bytes; the kernel shows no more of a symbolic link than a page. */
const MOST_TARGET = 65535;

/** Not for use by two threads: each opens its own. */
export class ErofsImage {
  readonly superblock: Superblock;
  readonly rootNid: Nid;
  /** Bytes. */
  readonly blockSize: number;
  /** Blocks of all devices. */
  readonly blocks: number;
  /** Inodes in use. */
  readonly inodes: number;
  /** Bytes of the primary device. */
  readonly size: number;
  readonly #source: ByteSource;
  readonly #volume: Volume;
  readonly #data: DataReader;
  readonly #directories: DirectoryReader;
  readonly #xattrs: XattrReader;

  private constructor(source: ByteSource, devices: readonly ByteSource[], options: ImageOptions) {
    const sb = readSuperblock(source);
    const volume = new Volume(sb, source, devices);
    const decompressor = new Decompressor(sb);
    const cache = new PclusterCache(options.cacheBytes ?? DEFAULT_CACHE);
    const fragments = fragmentsOf(volume, decompressor, cache);
    if (sb.metaboxNid !== undefined) {
      const reader = new DataReader(volume, decompressor, cache, fragments);
      const inode = readInode(volume, sb.metaboxNid);
      volume.metabox = new MetaCache(inodeSource(reader, inode), sb.blockSize, true);
    }
    this.superblock = sb;
    this.rootNid = sb.rootNid;
    this.blockSize = sb.blockSize;
    this.blocks = sb.devices.reduce((sum, device) => sum + device.blocks, sb.blocks);
    this.inodes = Number(sb.inos);
    this.size = source.size;
    this.#source = source;
    this.#volume = volume;
    this.#data = new DataReader(volume, decompressor, cache, fragments);
    this.#directories = new DirectoryReader(volume, this.#data);
    this.#xattrs = new XattrReader(volume, readPrefixes(volume, fragments));
  }

  /**
   * Opens an image; reads its superblock, device table, compression configurations and xattr prefixes.
   * @param devices the extra devices, in the order of the table. One that is missing is missed when its data is read.
   * @throws ErofsError, or what the source throws.
   */
  static open(
    source: ByteSource,
    devices: readonly ByteSource[] = [],
    options: ImageOptions = {},
  ): ErofsImage {
    return new ErofsImage(source, devices, options);
  }

  /** Whether the superblock's checksum is right; undefined when there is none. */
  checksumMatches(): boolean | undefined {
    return checksumMatches(this.#source, this.superblock);
  }

  /** @param nid as the root, a directory or a file handle has it. @throws ErofsError */
  inode(nid: number): Inode {
    return readInode(this.#volume, nid as Nid);
  }

  /** st_ino that the kernel shows. */
  ino(nid: number): bigint {
    if (this.superblock.metaboxNid === undefined) return BigInt(nid);
    // erofs_nid_to_ino64(): the metabox bit goes to bit 31, what was above moves up.
    const slot = nidToBigInt(nid as Nid) & 0x7fff_ffff_ffff_ffffn;
    const flag = inMetabox(nid as Nid) ? 1n << 31n : 0n;
    return ((slot << 1n) & 0xffff_ffff_0000_0000n) | (slot & 0x7fff_ffffn) | flag;
  }

  /**
   * Finds a name in a directory: `length` bytes at `from` of `name`, all of it by default.
   * @returns its nid, undefined when it is not there. @throws ErofsError
   */
  lookup(dir: Inode, name: Uint8Array, from = 0, length = name.length - from): Nid | undefined {
    return this.#directories.lookup(dir, name, from, length);
  }

  /**
   * Calls back for the entries of a directory, "." and ".." among them.
   * @param from 0, or where to go on: the `next` of an entry. @throws ErofsError
   */
  list(dir: Inode, callback: DirentCallback, from = 0): void {
    this.#directories.list(dir, callback, from);
  }

  /** As list(), without a view a name. @throws ErofsError */
  visit(dir: Inode, visitor: DirentVisitor, from: number): void {
    this.#directories.visit(dir, visitor, from);
  }

  /** As list() from the start, without "." and "..". @throws ErofsError */
  children(dir: Inode, callback: DirentCallback): void {
    this.#directories.list(
      dir,
      (name, nid, type, next) => (isDots(name) ? undefined : callback(name, nid, type, next)),
      0,
    );
  }

  /**
   * Reads file data (of a directory or symbolic link as well).
   * @returns bytes: out.length, fewer at the end, 0 behind it. @throws ErofsError, or what the source throws.
   */
  read(inode: Inode, out: Uint8Array, at: number): number {
    return this.#data.read(inode, out, at);
  }

  /** @returns the target of a symbolic link, Latin-1 (one character a byte). @throws ErofsError */
  readlink(inode: Inode): string {
    if (inode.size > MOST_TARGET) {
      corrupt('erofs_inode', 'i_size', inode.at + 8, `a symbolic link of ${inode.size} bytes`);
    }
    const target = Buffer.alloc(inode.size);
    this.#data.read(inode, target, 0);
    return target.toString('latin1');
  }

  /** @returns the value as fresh bytes, undefined when there is none. @throws ErofsError */
  getxattr(inode: Inode, name: string): Uint8Array | undefined {
    return this.#xattrs.get(inode, name);
  }

  /** Whole names, Latin-1. @throws ErofsError */
  listxattr(inode: Inode): string[] {
    return this.#xattrs.list(inode);
  }

  /**
   * Names and values in one pass, as they lie: those behind the inode, then the shared ones.
   * @param plain also names without a prefix of the format, which no mount shows. @throws ErofsError
   */
  xattrs(inode: Inode, plain = false): Xattr[] {
    return this.#xattrs.all(inode, plain);
  }

  /** What is stored of a file from byte `from` on, in order; holes are left out. @throws ErofsError */
  *extents(inode: Inode, from = 0): Generator<Extent> {
    const m = newMapping();
    for (let la = from; la < inode.size; la = m.la + m.llen) {
      mapBlocks(this.#volume, inode, la, m);
      if (m.kind === Kind.HOLE) continue;
      const encoded = m.kind === Kind.ENCODED || m.kind === Kind.ENCODED_INLINE;
      const inline = m.kind === Kind.INLINE || m.kind === Kind.ENCODED_INLINE;
      const plain = m.algorithm === Plain.SHIFTED || m.algorithm === Plain.INTERLACED;
      yield {
        at: m.la,
        length: m.llen,
        where: m.kind === Kind.FRAGMENT ? 'packed' : inline ? 'inline' : 'device',
        device: m.device,
        storedAt: m.pa,
        stored: m.plen,
        algorithm: !encoded ? undefined : plain ? 'plain' : ALGORITHM_NAMES[m.algorithm],
      };
    }
  }
}

/** Whether a name is "." or "..". */
export function isDots(name: Uint8Array): boolean {
  return name[0] === 0x2e && (name.length === 1 || (name.length === 2 && name[1] === 0x2e));
}

/** The packed inode, opened when the first fragment is read. */
function fragmentsOf(
  volume: Volume,
  decompressor: Decompressor,
  cache: PclusterCache,
): () => Fragments {
  let opened: Fragments | undefined;
  return () => {
    if (opened !== undefined) return opened;
    const nid = volume.sb.packedNid;
    if (nid === undefined) corrupt('erofs_super_block', 'packed_nid', 1120, 'none for a fragment');
    // It has no fragments itself.
    const reader = new DataReader(volume, decompressor, cache, undefined);
    opened = { reader, inode: readInode(volume, nid) };
    return opened;
  };
}

/** The data of an inode as a byte source. */
function inodeSource(reader: DataReader, inode: Inode): ByteSource {
  return {
    size: inode.size,
    read(at, out) {
      if (reader.read(inode, out, at) !== out.length) {
        throw new RangeError(`${out.length} bytes at ${at}: the metabox has ${inode.size}`);
      }
    },
  };
}

/** The long xattr prefixes: each a u16 length, a base index, the rest of the prefix; at multiples of 4 bytes. */
function readPrefixes(volume: Volume, fragments: () => Fragments): LongPrefix[] {
  const { sb } = volume;
  const prefixes: LongPrefix[] = [];
  if (sb.xattrPrefixCount === 0) return prefixes;
  let space = volume.meta;
  if ((sb.featureCompat & FeatureCompat.PLAIN_XATTR_PFX) === 0) {
    if (volume.metabox !== undefined) space = volume.metabox;
    else if (sb.packedNid !== undefined) {
      const { reader, inode } = fragments();
      space = new MetaCache(inodeSource(reader, inode), sb.blockSize);
    }
  }
  const name = 'erofs_xattr_long_prefix';
  const bytes = Buffer.alloc(256);
  let at = sb.xattrPrefixAt;
  for (let i = 0; i < sb.xattrPrefixCount; i++) {
    at = Math.ceil(at / 4) * 4;
    const length = space.view.getUint16(space.at(at, 2, name, 'size'), true);
    if (length < 1 || length > 256)
      corrupt(name, 'size', at, `${length} bytes: 1 to 256 are allowed`);
    space.copy(at + 2, bytes, 0, length, name, 'infix');
    prefixes.push({ base: bytes[0] as number, infix: bytes.toString('latin1', 1, length) });
    at += 2 + length;
  }
  return prefixes;
}
