// What an image is to be like: the options of a build, their defaults and what of them cannot be combined.
// Given by the commands through buildImage (write.ts), which hands the settled form to every step.
// Follows: mkfs.erofs(1) of erofs-utils 1.9 for the meaning of the options, erofs_fs.h for the limits.

import { METHODS, type Method } from '../linux/compressors.js';
import type { TreeNode } from '../tree/tree.js';
import { Z_EROFS_LZMA_MAX_DICT_SIZE, Z_EROFS_PCLUSTER_MAX_SIZE } from './format.js';

/** Bytes of a block, of every image that is written here. */
export const BLOCK = 4096;
/** log2 of BLOCK */
export const BLOCK_BITS = 12;

/** A method and how hard it tries. */
export interface Compression {
  readonly method: Method;
  /** As METHODS says; undefined: the default of the method. */
  readonly level?: number;
}

/** How one file is stored. */
export interface FileChoice {
  /** Place in `compression`; -1: not compressed. */
  readonly compression: number;
  /** Bytes; undefined: the image's. */
  readonly pclusterSize?: number;
}

/** Where the data of one file lies on extra device 1. */
export interface FilePlace {
  /** log2 of the chunk size in bytes, 12 to 43. */
  readonly chunkBits: number;
  /** First block of each chunk; 0xffffffff: a hole. */
  readonly blocks: Uint32Array;
}

/** Data that lies on extra device 1 already, or will: the tree's content is not read. */
export interface PlacedData {
  /** Blocks of the device. */
  readonly blocks: number;
  /** Asked for each regular file that is not empty; undefined: all of it is a hole. */
  at(node: TreeNode): FilePlace | undefined;
}

export interface BuildProgress {
  /** Inodes in the tree. */
  readonly inodes: number;
  /** Regular files, and those that are finished. */
  readonly files: number;
  readonly filesDone: number;
  /** Bytes of regular files, and those that have been read. */
  readonly bytes: number;
  readonly bytesIn: number;
  /** Bytes written so far. */
  readonly bytesOut: number;
}

export interface BuildOptions {
  /** Methods that files may be compressed with; the first is the default. Empty or undefined: none. */
  readonly compression?: readonly Compression[];
  /** Asked for each regular file, path latin1 and beginning with a slash; undefined: the default. */
  readonly choose?: (path: string, size: number) => FileChoice | undefined;
  /** Bytes that a pcluster takes on disk, a multiple of 4096 up to 1 MiB; 4096. */
  readonly pclusterSize?: number;
  /** The last pcluster of a file lies with its inode where that saves a block. */
  readonly tailPacking?: boolean;
  /** What does not fill a pcluster is gathered in one hidden file and compressed there: tails, or all files. */
  readonly fragments?: 'tails' | 'all';
  /** Equal pclusters, fragments and uncompressed files are stored once. */
  readonly dedupe?: boolean;
  /** Bytes, a power of two of 4096 or more: files become chunks, equal chunks are stored once, nothing is compressed. */
  readonly chunkSize?: number;
  /** Files with holes of 64 KiB or more take smaller chunks than `chunkSize` where that leaves the holes out. */
  readonly keepHoles?: boolean;
  /** Path of a second file that takes all chunks, so that the image is only metadata. Needs chunkSize. */
  readonly blob?: string;
  /** All data is on a device beside the image, at these places; the image is only metadata. Not with chunkSize. Give a uuid, too. */
  readonly placed?: PlacedData;
  /** Owner of everything. */
  readonly uid?: number;
  readonly gid?: number;
  /** Modification time of everything, seconds since 1970. */
  readonly time?: number;
  /** 16 bytes; undefined: derived from the content, so that equal trees make equal images. */
  readonly uuid?: Uint8Array;
  /** Up to 16 bytes, latin1. */
  readonly volumeName?: string;
  /** An xattr that more inodes than this have is stored once for all; 2. Infinity: never. */
  readonly xattrTolerance?: number;
  /** Beginnings of xattr names that are stored once (`user.overlay.`), up to 128. */
  readonly xattrPrefixes?: readonly string[];
  /** A bloom filter of the names with each inode that has xattrs; true. */
  readonly xattrFilter?: boolean;
  /** Threads that compress; undefined: one for each core. 0: the calling thread does all. */
  readonly workers?: number;
  readonly onProgress?: (progress: BuildProgress) => void;
}

/** A method with everything decided. */
export interface Coder {
  readonly method: Method;
  readonly level: number;
  /** Bytes of the dictionary, a power of two. */
  readonly window: number;
}

/** The options with their defaults in. */
export interface Settings extends Omit<BuildOptions, 'compression'> {
  readonly coders: readonly Coder[];
  readonly pclusterSize: number;
  readonly tailPacking: boolean;
  readonly dedupe: boolean;
  readonly xattrTolerance: number;
  readonly xattrPrefixes: readonly string[];
  readonly xattrFilter: boolean;
}

/** Options that make no image. */
export class BuildOptionError extends Error {
  constructor(message: string) {
    super(message);
    this.name = 'BuildOptionError';
  }
}

/**
 * `lz4hc`, `lz4hc,12` or `zstd:19` as a Compression; `none` is undefined.
 * @throws BuildOptionError that names what can be said.
 */
export function parseCompression(text: string): Compression | undefined {
  if (text === 'none') return undefined;
  const [, name = '', level] = /^([a-z0-9]+)(?:[,:](?:level=)?(\d+))?$/.exec(text) ?? [];
  if (!Object.hasOwn(METHODS, name)) {
    const known = ['none', ...Object.keys(METHODS)].join(', ');
    throw new BuildOptionError(
      `unknown compression "${text}"; known are ${known}, each with ,LEVEL`,
    );
  }
  const method = name as Method;
  return level === undefined ? { method } : { method, level: Number(level) };
}

/** @throws BuildOptionError for what cannot be, in one line. */
export function settle(options: BuildOptions): Settings {
  const pclusterSize = options.pclusterSize ?? BLOCK;
  checkPcluster(pclusterSize);
  const coders = (options.compression ?? []).map((one) => settleCoder(one, pclusterSize));
  if (coders.length > 16) throw new BuildOptionError('more than 16 compressions');
  const { chunkSize, uuid, volumeName = '' } = options;
  if (chunkSize !== undefined) {
    const bits = Math.log2(chunkSize) - BLOCK_BITS;
    if (!Number.isInteger(bits) || bits < 0 || bits > 31) {
      throw new BuildOptionError(`chunk size ${chunkSize} is no power of two of ${BLOCK} or more`);
    }
    if (coders.length > 0)
      throw new BuildOptionError('chunks are not compressed: no -z with chunks');
  }
  if (options.blob !== undefined && chunkSize === undefined) {
    throw new BuildOptionError('a blob for the data needs a chunk size');
  }
  if (options.placed !== undefined && (chunkSize !== undefined || coders.length > 0)) {
    throw new BuildOptionError('placed data is neither cut nor compressed');
  }
  if (coders.length === 0 && (options.tailPacking || options.fragments !== undefined)) {
    throw new BuildOptionError('tail packing and fragments need a compression');
  }
  if (uuid !== undefined && uuid.length !== 16) throw new BuildOptionError('a UUID has 16 bytes');
  if (volumeName.length > 16) throw new BuildOptionError('the volume name is longer than 16 bytes');
  for (const id of [options.uid, options.gid]) {
    if (id !== undefined && (!Number.isInteger(id) || id < 0 || id > 0xffff_fffe)) {
      throw new BuildOptionError(`${id} is no uid or gid`);
    }
  }
  if (options.time !== undefined && !Number.isSafeInteger(options.time)) {
    throw new BuildOptionError(`time ${options.time} is no whole number of seconds`);
  }
  const xattrPrefixes = options.xattrPrefixes ?? [];
  if (xattrPrefixes.length > 128) throw new BuildOptionError('more than 128 xattr prefixes');
  return {
    ...options,
    coders,
    pclusterSize,
    tailPacking: options.tailPacking ?? false,
    dedupe: options.dedupe ?? false,
    xattrTolerance: options.xattrTolerance ?? 2,
    xattrPrefixes,
    xattrFilter: options.xattrFilter ?? true,
  };
}

/** @throws BuildOptionError unless pclusters can have this size. */
export function checkPcluster(size: number): void {
  if (!Number.isInteger(size / BLOCK) || size < BLOCK || size > Z_EROFS_PCLUSTER_MAX_SIZE) {
    throw new BuildOptionError(`pcluster size ${size} is no multiple of ${BLOCK} up to 1 MiB`);
  }
}

function settleCoder({ method, level }: Compression, pclusterSize: number): Coder {
  const limits = METHODS[method];
  const settled = level ?? limits.level;
  const isGap = method === 'lzma' && settled > 9 && settled < 100;
  if (settled < limits.least || settled > limits.most || !Number.isInteger(settled) || isGap) {
    throw new BuildOptionError(
      `${method} has no level ${settled}; its levels are ${limits.least} to ${limits.most}`,
    );
  }
  return { method, level: settled, window: windowOf(method, pclusterSize) };
}

/** As mkfs.erofs chooses: what one pcluster may hold when its content compresses well, within the limits of readers. */
function windowOf(method: Method, pclusterSize: number): number {
  switch (method) {
    case 'lz4':
    case 'lz4hc':
      return 65536;
    case 'deflate':
      return 32768;
    case 'zstd':
      return 2 ** Math.floor(Math.log2(Math.min(Z_EROFS_PCLUSTER_MAX_SIZE, pclusterSize * 8)));
    case 'lzma': {
      const wanted = Math.min(Z_EROFS_LZMA_MAX_DICT_SIZE, pclusterSize * 4);
      return Math.max(32768, 2 ** Math.floor(Math.log2(wanted)));
    }
  }
}
