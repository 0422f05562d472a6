// Where a byte of a file with lcluster indexes is stored: its extent, from head to head, and the extent's pcluster.
// Called by map.ts; the indexes themselves are clusters.ts.
// Follows: z_erofs_map_blocks_fo() of Linux 6.18 (fs/erofs/zmap.c). Every walk has a bound, which the kernel lacks.

import { Clusters } from './clusters.js';
import { corrupt } from './errors.js';
import {
  ALGORITHM_NAMES,
  ClusterType,
  Layout,
  Z_EROFS_PCLUSTER_MAX_DSIZE,
  Z_EROFS_PCLUSTER_MAX_SIZE,
  ZAdvise,
} from './format.js';
import type { Inode } from './inode.js';
import { type CompressionInfo, Kind, type Mapping, Plain } from './mapping.js';
import type { Volume } from './volume.js';

const HI = 0x1_0000_0000;

/** Steps back to a head: each is up to 2047 lclusters, so a sound image needs a few. */
const MOST_STEPS_BACK = 4096;

/** As mapBlocks(), for indexes of logical clusters. */
export function mapClusters(
  volume: Volume,
  inode: Inode,
  z: CompressionInfo,
  la: number,
  m: Mapping,
): void {
  if (z.wholeFragment) {
    m.kind = Kind.FRAGMENT;
    m.la = 0;
    m.llen = inode.size;
    m.pa = z.fragmentAt;
    m.plen = inode.size;
    return;
  }
  const isFragment = (z.advise & ZAdvise.FRAGMENT_PCLUSTER) !== 0;
  if ((isFragment || z.inlineSize !== 0) && z.tailCluster < 0) findTail(volume, inode, z);

  const c = new Clusters(volume, inode, z);
  const end = toHead(c, la);
  const headType = c.type;
  const { lcn: head, partial } = c;
  m.la = head * z.clusterSize + c.offset;
  m.partial = partial;
  if (head === z.tailCluster && isFragment) {
    m.kind = Kind.FRAGMENT;
    m.llen = inode.size - m.la;
    m.pa = z.fragmentAt;
    m.plen = m.llen;
    return;
  }
  if (head === z.tailCluster) {
    m.kind = Kind.ENCODED_INLINE;
    m.pa = z.inlineAt;
    m.plen = z.inlineSize;
    m.llen = inode.size - m.la;
  } else {
    m.kind = Kind.ENCODED;
    m.pa = c.block * volume.sb.blockSize;
    m.plen = pclusterBlocks(c, head, headType) * volume.sb.blockSize;
    m.llen = (end < 0 ? extentEnd(c, head) : end) - m.la;
  }
  if (headType === ClusterType.PLAIN) {
    const interlaced = (z.advise & ZAdvise.INTERLACED_PCLUSTER) !== 0;
    m.algorithm = interlaced ? Plain.INTERLACED : Plain.SHIFTED;
  } else {
    m.algorithm = headType === ClusterType.HEAD2 ? z.algorithm2 : z.algorithm1;
  }
  checkEncoded(volume, inode, z, m);
}

/** What every pcluster must be: not larger than memory is set aside for, of an algorithm that the image declares. */
export function checkEncoded(volume: Volume, inode: Inode, z: CompressionInfo, m: Mapping): void {
  const fail = (field: string, what: string): never =>
    corrupt('z_erofs_map_header', field, z.headerAt, `${what} at byte ${m.la} of nid ${inode.nid}`);
  if (m.algorithm < ALGORITHM_NAMES.length) {
    if (((volume.sb.algorithms >>> m.algorithm) & 1) === 0) {
      fail(
        'h_algorithmtype',
        `${ALGORITHM_NAMES[m.algorithm]}, which the superblock does not name,`,
      );
    }
  } else if (m.algorithm > Plain.INTERLACED) {
    fail('h_algorithmtype', `unknown algorithm ${m.algorithm}`);
  } else if (m.llen > m.plen) {
    fail('h_advise', `${m.llen} plain bytes in ${m.plen}`);
  }
  if (m.plen === 0 || m.plen > Z_EROFS_PCLUSTER_MAX_SIZE) {
    fail('h_advise', `a pcluster of ${m.plen} bytes`);
  }
  if (m.llen > Z_EROFS_PCLUSTER_MAX_DSIZE) fail('h_advise', `an extent of ${m.llen} bytes`);
}

/** Finds the lcluster at which the last extent begins, and what is stored apart from the others because of it. */
function findTail(volume: Volume, inode: Inode, z: CompressionInfo): void {
  const c = new Clusters(volume, inode, z);
  const { blockSize } = volume.sb;
  c.load(Math.floor((inode.size - 1) / z.clusterSize), false);
  const inlineAt = c.nextAt;
  toHead(c, inode.size - 1);
  if (z.inlineSize !== 0) {
    if ((inlineAt % blockSize) + z.inlineSize > blockSize) {
      const what = `${z.inlineSize} bytes at byte ${inlineAt} cross a block (nid ${inode.nid})`;
      corrupt('z_erofs_map_header', 'h_idata_size', z.headerAt + 2, what);
    }
    z.inlineAt = inlineAt;
  } else if (inode.layout === Layout.COMPRESSED_FULL) {
    // The head's block address has the upper half of the place in the packed inode.
    if (c.block >= 0x20_0000) c.fail('di_u.blkaddr', 'no packed inode is so large');
    z.fragmentAt += c.block * HI;
  }
  z.tailCluster = c.lcn;
}

/**
 * Loads the head of the extent with byte `la`.
 * @returns where the extent ends when that is known on the way, else -1.
 */
function toHead(c: Clusters, la: number): number {
  const { clusterSize } = c.z;
  const first = Math.floor(la / clusterSize);
  c.load(first, false);
  let end = -1;
  if (c.type !== ClusterType.NONHEAD) {
    if (la - first * clusterSize >= c.offset) return end;
    // The byte lies before the head of its lcluster: it belongs to the extent before.
    if (first === 0) c.fail('di_clusterofs', 'the first extent does not begin at byte 0');
    end = first * clusterSize + c.offset;
    c.back = 1;
  }
  for (let steps = 0; ; steps++) {
    const { back } = c;
    if (back === 0 || back > c.lcn || steps > MOST_STEPS_BACK) {
      c.fail('di_u.delta', `a distance of ${back} from lcluster ${c.lcn} to its head`);
    }
    c.load(c.lcn - back, false);
    if (c.type !== ClusterType.NONHEAD) return end;
  }
}

/** Blocks of the pcluster of a head: one, or what the lcluster behind it says. */
function pclusterBlocks(c: Clusters, head: number, headType: number): number {
  const { advise, clusterSize } = c.z;
  const bit = headType === ClusterType.HEAD1 ? ZAdvise.BIG_PCLUSTER_1 : ZAdvise.BIG_PCLUSTER_2;
  if ((advise & bit) === 0 || (head + 1) * clusterSize >= c.inode.size) return 1;
  c.compressedBlocks = 0;
  c.load(head + 1, false);
  if (c.type !== ClusterType.NONHEAD) return 1;
  if (c.compressedBlocks === 0) c.fail('di_u.delta', `lcluster ${head} without a size in blocks`);
  return c.compressedBlocks;
}

/** Byte at which the extent of a head ends: the next head, or the end of the file. */
function extentEnd(c: Clusters, head: number): number {
  const { clusterSize } = c.z;
  const most = (head + 1) * clusterSize + Z_EROFS_PCLUSTER_MAX_DSIZE;
  let lcn = head + 1;
  for (;;) {
    const at = lcn * clusterSize;
    if (at >= c.inode.size) return c.inode.size;
    if (at > most) c.fail('di_u.delta', `the extent of lcluster ${head} does not end`);
    c.load(lcn, true);
    if (c.type !== ClusterType.NONHEAD) return at + c.offset;
    // mkfs.erofs before 1.0 left the distance 0.
    lcn += Math.max(1, c.ahead);
  }
}
