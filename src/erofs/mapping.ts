// One run of a file's bytes and where they are stored; what the header of a compressed file says.
// Filled by map.ts and its helpers, used by data.ts to read and by image.ts to list extents.
// Follows: struct erofs_map_blocks of Linux 6.18.

/** How the bytes of a run are stored. */
export const Kind = {
  /** Not stored: zeros. */
  HOLE: 0,
  /** As they are, on a device. */
  RAW: 1,
  /** As they are, behind the inode. */
  INLINE: 2,
  /** In a pcluster on a device. */
  ENCODED: 3,
  /** In a pcluster behind the inode's indexes. */
  ENCODED_INLINE: 4,
  /** In the packed inode. */
  FRAGMENT: 5,
} as const;

/** Encodings of a pcluster besides format.ts's Algorithm. */
export const Plain = {
  /** As they are, from the first byte on. */
  SHIFTED: 4,
  /** As they are, each byte at its place in the block: rotated. */
  INTERLACED: 5,
} as const;

/** Reused from call to call: read it before the next run is looked up. */
export interface Mapping {
  /** One of Kind. */
  kind: number;
  /** First byte in the file, and bytes. */
  la: number;
  llen: number;
  /** First byte on the device, in the metadata or in the packed inode; bytes there. */
  pa: number;
  plen: number;
  /** Number of an extra device; 0: the unified address space. */
  device: number;
  /** One of Algorithm or Plain, when encoded. */
  algorithm: number;
  /** The pcluster holds more than the run. */
  partial: boolean;
}

export function newMapping(): Mapping {
  return {
    kind: Kind.HOLE,
    la: 0,
    llen: 0,
    pa: 0,
    plen: 0,
    device: 0,
    algorithm: 0,
    partial: false,
  };
}

/** The header before the indexes of a compressed file; kept with its inode. */
export interface CompressionInfo {
  /** Bits of ZAdvise. */
  readonly advise: number;
  /** log2 of the bytes of a logical cluster, and the bytes. */
  readonly clusterBits: number;
  readonly clusterSize: number;
  /** Algorithms of HEAD1 and HEAD2. */
  readonly algorithm1: number;
  readonly algorithm2: number;
  /** Byte of the header. */
  readonly headerAt: number;
  /** Bytes of an extent record; 0: there are indexes of logical clusters. */
  readonly recordSize: number;
  /** Number of extent records (of 16 bytes and more). */
  readonly extents: number;
  /** Bytes of the pcluster behind the indexes; 0: there is none. */
  readonly inlineSize: number;
  /** The whole file is a fragment. */
  readonly wholeFragment: boolean;
  /** Byte in the packed inode; complete once the tail is known. */
  fragmentAt: number;
  /** Found by map-clusters.ts when there is an inline pcluster or a fragment: the lcluster at which it begins... */
  tailCluster: number;
  /** ...and byte of the inline pcluster. -1: not looked for yet. */
  inlineAt: number;
  /** Position of map-extents.ts in records without addresses: byte in the file, byte on the device. */
  walkedTo: number;
  walkedAt: number;
}
